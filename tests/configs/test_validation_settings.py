import pytest

from md2dist.config import load_config, save_config
from md2dist.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("DIR", ("DIR",)),
        ("001", ("001",)),
        ("[near,far]", ("near", "far")),
        ("near,far", ("near,far",)),
        ("null", ()),
        ("", ()),
        ("[]", ()),
    ],
)
def test_a_list_of_texts_may_be_a_single_one(text, expected, tmp_path):
    assert load_config([], [f"data.val_shards={text}"]).data.val_shards == expected
    file = tmp_path / "config.yaml"
    save_config(load_config([], [f"data.val_shards={text}"]), file)
    assert load_config([file]).data.val_shards == expected


def test_the_text_of_a_file_of_an_earlier_version_is_a_list_of_one(tmp_path):
    file = tmp_path / "config.yaml"
    for text, expected in (("shards/val", ("shards/val",)), ("null", ())):
        file.write_text(f"data:\n  val_shards: {text}\n")
        assert load_config([file]).data.val_shards == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.val_shards=[1,2]"], "expected text, but YAML parses it as 1"),
        (["data.val_shards=[a,a]"], "expected distinct folders"),
        (["checkpoint.patience=3"], "none without data.val_shards"),
    ],
)
def test_validation_settings_that_mean_nothing_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        load_config([], words)
