import pytest

from md2dist.config import load_config, save_config
from md2dist.training.continuity import describe_changes


def test_only_what_has_changed_is_told(tmp_path):
    before, now = load_config(), load_config([], ["optim.lr=0.5", "data.frame_offsets=[1]"])
    save_config(before, tmp_path / "config.yaml")
    assert describe_changes(tmp_path / "config.yaml", before) == []
    assert describe_changes(tmp_path / "config.yaml", now) == [
        "data.frame_offsets: (-1, 1) -> (1,)",
        "optim.lr: 0.0001 -> 0.5",
    ]


@pytest.mark.parametrize("text", ["optim:\n  momentum: 0.9\n", "- no\n", None])
def test_settings_that_cannot_be_read_are_told_and_do_not_stop_the_run(tmp_path, text):
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    (told,) = describe_changes(path, load_config())
    assert "cannot be compared" in told
