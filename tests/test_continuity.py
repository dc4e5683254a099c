import pytest

from md2dist.config import load_config, save_config
from md2dist.training.batch_plan import BatchPlan
from md2dist.training.continuity import describe_changes
from md2dist.training.resolved import resolve


def test_only_what_has_changed_is_told(tmp_path):
    before, now = load_config(), load_config([], ["optim.lr=0.5", "data.frame_offsets=[1]"])
    save_config(before, tmp_path / "config.yaml")
    assert describe_changes(tmp_path / "config.yaml", before, {}, {}) == []
    assert describe_changes(tmp_path / "config.yaml", now, {}, {}) == [
        "data.frame_offsets: (-1, 1) -> (1,)",
        "optim.lr: 0.0001 -> 0.5",
    ]


def test_settings_that_were_left_open_are_compared_by_what_they_came_to(tmp_path):
    path, now = tmp_path / "config.yaml", load_config([], ["optim.global_batch_size=24"])
    save_config(load_config(), path)
    used = resolve(load_config([], ["precision.dtype=bf16"]), BatchPlan(24, 12, 2), 1)
    assert describe_changes(path, now, used, used) == []
    alike = resolve(load_config([], ["precision.dtype=fp32"]), BatchPlan(24, 12, 1), 2)
    assert describe_changes(path, now, used, alike) == [
        "optim.grad_accum_steps: 2 -> 1",
        "precision.dtype: bf16 -> fp32",
        "ranks: 1 -> 2",
    ]
    assert describe_changes(path, now, {}, alike) == ["optim.global_batch_size: None -> 24"]


@pytest.mark.parametrize("text", ["optim:\n  momentum: 0.9\n", "- no\n", None])
def test_settings_that_cannot_be_read_are_told_and_do_not_stop_the_run(tmp_path, text):
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    (told,) = describe_changes(path, load_config(), {}, {})
    assert "cannot be compared" in told
