"""The README's commands and settings, read by those who would run them."""

import argparse
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
import torch.distributed.run
from deepspeed.launcher import runner

from md2dist.config import load_config, load_words
from md2dist.data.kitti.published_splits import PUBLISHED_SPLITS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SPLITS = {*PUBLISHED_SPLITS, "rule/train", "rule/val"}


class ParsedError(Exception):
    """A script has understood its words; it goes no further."""


@pytest.fixture
def parse(monkeypatch):
    """Runs a script until it has parsed its words, and gives what it made of them."""

    def stop_after(parser, *words, original=argparse.ArgumentParser.parse_args):
        raise ParsedError(original(parser, *words))

    def parse(script, *words):
        monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop_after)
        monkeypatch.setattr(sys, "argv", [script, *words])
        with pytest.raises(ParsedError) as parsed:
            runpy.run_path(script, run_name="__main__")
        return parsed.value.args[0]

    monkeypatch.chdir(ROOT)
    return parse


def readme_commands():
    blocks = "".join(re.findall(r"```bash\n(.*?)```", README, re.DOTALL))
    return blocks.replace("\\\n", " ").splitlines()


def words_of_python(command):
    """The script that a command ends up with, and its words."""
    program, *words = shlex.split(re.sub(r"\$\w+", "0", command))
    if program == "deepspeed":
        options = runner.parse_args(words)
        return [options.user_script, *options.user_args]
    if program == "torchrun":
        options = torch.distributed.run.parse_args(words)
        return [options.training_script, *options.training_script_args]
    if program == "sbatch":
        number = next(i for i, word in enumerate(words) if word.endswith(".sbatch"))
        return [*words_of_batch_script(words[number]), *words[number + 1 :]]
    assert program == "python", command
    return words


def words_of_batch_script(path):
    """What a batch script puts before the words that it hands on; variables are 1."""
    text = re.sub(r"^#.*\n", "", (ROOT / path).read_text(), flags=re.MULTILINE)
    [(script, words)] = re.findall(r'(\S+\.py)(.*?)"\$@"', text.replace("\\\n", ""), re.DOTALL)
    return [script, *shlex.split(re.sub(r'"\$[^"]*"', "1", words))]


@pytest.mark.parametrize("command", [c for c in readme_commands() if not c.startswith("make ")])
def test_a_command_of_the_readme_is_understood_by_its_script(command, parse):
    inner = re.fullmatch(r"\w+=\$\((.*)\)", command)  # job=$(sbatch ...)
    options = parse(*words_of_python(inner[1] if inner else command))
    if "overrides" in options:
        load_words([*getattr(options, "config", []), *options.overrides])
    if "split" in options:
        assert options.split in SPLITS or options.split.endswith(".txt")


def test_every_target_of_make_in_the_readme_exists():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    run = {command[5:] for command in readme_commands() if command.startswith("make ")}
    assert run
    assert run | set(re.findall(r"`make ([a-z-]+)`", README)) <= set(targets)


def test_every_setting_and_split_that_the_readme_names_exists():
    config = load_config()
    sections = "|".join(vars(config))
    settings = re.findall(rf"`((?:{sections})\.\w+)(=\S+?)?`", README)
    assert settings
    for key, value in settings:
        section, name = key.split(".")
        assert hasattr(getattr(config, section), name), key
        if value:
            load_config(overrides=[key + value])
    splits = re.findall(r"\b(?:eigen\w*|benchmark|odom|rule)/\w+", README)
    assert set(splits) <= SPLITS
