from md2dist.config import load_config
from md2dist.training.resolved_settings import annotate


def test_resolved_values_are_a_comment_above_the_settings(tmp_path):
    config = load_config([], ["seed=3"])
    text = annotate(config, {"precision.dtype": "bf16", "ranks": 2})
    assert text.startswith("# ")
    assert text.splitlines()[0].endswith("precision.dtype=bf16 ranks=2")
    (tmp_path / "config.yaml").write_text(text)
    assert load_config([tmp_path / "config.yaml"]) == config
