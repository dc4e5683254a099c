"""Settings in which YAML claims more than any program expects."""

import pytest

from md2dist.config import load_config
from md2dist.errors import ConfigError

ALIASES = "a: &a [0,0,0,0,0,0,0,0,0]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
NESTED = "expected at most 20 nested lists and sections"
LONG = "expected values of at most 3500 characters"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: " + "[" * 500_000, NESTED),
        ("a: " + "{b: " * 20_000, NESTED),
        ("\n".join(f"{' ' * depth}a:" for depth in range(1000)), NESTED),
        ("seed: " + "7" * 5000, LONG),
        ("seed: " + ":".join(["59"] * 300_000), LONG),  # PyYAML takes a minute for it
        (ALIASES, "node expansion exceeds"),
        ("? \n: 2", "key type"),
        ("true", "value type bool|object type: bool"),
    ],
    ids=["a list", "braces", "indents", "digits", "base 60", "aliases", "a key", "a value"],
)
def test_settings_that_a_parser_cannot_take_are_refused_in_one_line(tmp_path, text, reason):
    path = tmp_path / "hostile.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"hostile\.yaml cannot be parsed as YAML: .*({reason})"):
        load_config([path])


@pytest.mark.parametrize(
    "override", ["seed=" + "[" * 100_000, "seed=" + "7" * 5000, "a." * 2000 + "=1"]
)
def test_an_override_that_a_parser_cannot_take_is_refused(override):
    with pytest.raises(ConfigError, match=r"expected (at most|values|section)"):
        load_config([], [override])
