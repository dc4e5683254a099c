"""YAML of any origin is read within bounds, and refused in one line."""

import os
import time

import pytest

from md2dist.config import load_config, load_words
from md2dist.errors import ConfigError

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE = {
    "brackets": "seed: " + "[" * 20_000,
    "braces": "seed: " + "{a: " * 20_000,
    "dashes": "seed: " + "- " * 20_000 + "1",
    "digits": "seed: " + "9" * 5_000,
    "a number of base 60": "seed: " + ":".join(["59"] * 300_000),
    "hexadecimal digits": "seed: 0x" + "f" * 5_000,
    "tagged digits": "seed: !!int '" + "9" * 5_000 + "'",
    "bomb": BOMB,
    "loop": "seed: &a [*a]",
    "no anchor": "seed: *nothing",
    "twice": "seed: 1\nseed: 2\n",
    "nested twice": "optim: {lr: 1, lr: 2}\n",
    "sections twice": "optim: {lr: 1}\noptim: {lr: 2}\n",
    "object": "seed: !!python/object/apply:os.system ['true']",
    "tag": "seed: !!int seven",
    "date": "seed: !!timestamp 2011-99-99",
    "binary": "seed: !!binary '%'",
    "set": "seed: !!set {1, 2}",
    "list as key": "? [1, 2]\n: 3\n",
    "two documents": "seed: 1\n---\nseed: 2\n",
    "tab": "seed:\n\t- 1\n",
    "control": "seed: \x07\n",
    "interpolation": "seed: " + "${" * 20_000,
    "loop of interpolations": "seed: ${seed}",
    "long text": "seed: " + "x" * 500_000,
    "long key": "x" * 500_000 + ": 1",
    "no mapping": "- seed",
    "number": "7",
    "keys": "? " * 5_000 + "1",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_short_line(tmp_path, name):
    path = tmp_path / "run.yaml"
    path.write_text(HOSTILE[name])
    start = time.process_time()
    with pytest.raises(ConfigError) as caught:
        load_config([path])
    assert time.process_time() - start < 20
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1500 + len(str(path))


@pytest.mark.parametrize("name", [*(n for n in HOSTILE if HOSTILE[n].startswith("seed: "))])
def test_a_hostile_value_on_the_command_line_is_refused_in_one_short_line(name):
    text = HOSTILE[name].removeprefix("seed: ")
    if name == "twice":
        text = "{a: 1, a: 2}"
    with pytest.raises(ConfigError) as caught:
        load_words([f"seed={text}"])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("key", ["a." * 20_000, "." * 20_000, "[" * 20_000, "seed[0]", "\\", ""])
def test_a_key_of_any_form_is_unknown(key):
    with pytest.raises(ConfigError) as caught:
        load_words([f"{key}=1"])
    assert len(str(caught.value)) < 1500


def test_a_file_of_a_gigabyte_is_refused_without_reading_it(tmp_path):
    path = tmp_path / "run.yaml"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(ConfigError, match=r"run\.yaml has more than 1048576 bytes"):
        load_config([path])


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_regular_file_is_refused(tmp_path, kind):
    path = tmp_path / "run.yaml"
    {"pipe": os.mkfifo, "folder": os.mkdir, "device": lambda p: p.symlink_to("/dev/zero")}[kind](
        path
    )
    with pytest.raises(ConfigError, match=r"run\.yaml cannot be read: it is not a regular file"):
        load_config([path])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_any_unicode_encoding_is_read(tmp_path, encoding):
    path = tmp_path / "run.yaml"
    path.write_bytes("seed: 7\nlog: {run_dir: straße}\n".encode(encoding))
    assert load_config([path]).log.run_dir == "straße"


@pytest.mark.parametrize("encoding", ["latin-1", "utf-32", "utf-16-le"])
def test_another_encoding_is_refused_in_one_line(tmp_path, encoding):
    path = tmp_path / "run.yaml"
    path.write_bytes("seed: 7\nlog: {run_dir: straße}\n".encode(encoding))
    with pytest.raises(ConfigError, match=r"run\.yaml (is not text|has a zero byte)") as caught:
        load_config([path])
    assert "\n" not in str(caught.value)


def test_aliases_of_a_usual_size_are_read(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("seed: &n 7\noptim: {num_epochs: *n, lr: 1e-3}\n")
    config = load_config([path])
    assert (config.seed, config.optim.num_epochs, config.optim.lr) == (7, 7, 1e-3)
