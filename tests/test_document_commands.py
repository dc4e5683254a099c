"""Every command in a document's bash blocks is parsed by the program that would run it."""

import argparse
import itertools
import re
import runpy
import shlex
import sys
import tomllib

import pytest
import torch.distributed.run
from deepspeed.launcher import runner
from helpers.documents import ROOT, SPLITS, TEXTS, blocks_of

from md2dist.commands.main import COMMANDS, module_of
from md2dist.config import load_words


class ParsedError(Exception):
    """Stops a program once it has parsed its arguments."""


@pytest.fixture
def parse(monkeypatch):
    """Runs a program until its arguments are parsed, and returns them."""

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


def commands_of(name):
    lines = "".join(blocks_of("bash|sh", name)).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip()]


ALL_COMMANDS = {
    f"{name}: {' '.join(command.split())}": command
    for name in TEXTS
    for command in commands_of(name)
}
OF_OTHERS = ("make ", "source ", "pip ", "docker build ", "apptainer ", "kubectl ")
PROGRAM_COMMANDS = {k: v for k, v in ALL_COMMANDS.items() if not v.startswith(OF_OTHERS)}
PIP_COMMANDS = {k: v for k, v in ALL_COMMANDS.items() if v.startswith("pip ")}


def script_and_arguments(command):
    """The Python file that a command ends up with, and its arguments."""
    program, *words = shlex.split(re.sub(r"\$\w+", "0", command))
    while "=" in program:  # a variable of the command's environment
        program, *words = words
    if program == "docker":
        program, *words = words[words.index("md2dist") + 1 :]
    if program == "srun":
        program, *words = words
    if program == "mpirun":
        program, *words = words[words.index("-n") + 2 :]
    if program == "md2dist":
        assert words[0] in COMMANDS, command
        return [f"md2dist/commands/{module_of(words[0])}.py", *words[1:]]
    if program == "deepspeed":
        options = runner.parse_args(words)
        return [file_of(options.user_script, options.module), *options.user_args]
    if program == "torchrun":
        options = torch.distributed.run.parse_args(words)
        script = file_of(options.training_script, options.module)
        return [script, *options.training_script_args]
    if program == "sbatch":
        number = next(i for i, word in enumerate(words) if word.endswith(".sbatch"))
        return [*arguments_of_batch_script(words[number]), *words[number + 1 :]]
    assert program == "python", command
    return words


def file_of(script, is_module):
    return f"{script.replace('.', '/')}.py" if is_module else script


def arguments_of_batch_script(path):
    """The arguments that a batch script puts before its own; variables are 1."""
    text = re.sub(r"^#.*\n", "", (ROOT / path).read_text(), flags=re.MULTILINE)
    [(script, words)] = re.findall(r'(\S+\.py)(.*?)"\$@"', text.replace("\\\n", ""), re.DOTALL)
    return [script, *shlex.split(re.sub(r'"\$[^"]*"', "1", words))]


@pytest.mark.parametrize("command", PROGRAM_COMMANDS.values(), ids=PROGRAM_COMMANDS)
def test_a_command_of_a_document_is_parsed_by_its_program(command, parse):
    inner = re.fullmatch(r"\w+=\$\((.*)\)", command)  # job=$(sbatch ...)
    script, *words = script_and_arguments(inner[1] if inner else command)
    if script == "docs/generate.py":  # takes no arguments
        assert not words
        return
    options = parse(script, *words)
    if "overrides" in options:
        load_words([*getattr(options, "config", []), *options.overrides])
    if "split" in options:
        assert options.split in SPLITS or options.split.endswith(".txt")


@pytest.mark.parametrize("command", PIP_COMMANDS.values(), ids=PIP_COMMANDS)
def test_an_installation_names_files_and_extras_that_exist(command):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    _, install, *words = shlex.split(command)
    assert install == "install"
    for option, value in itertools.pairwise(words):
        if option == "-c":
            assert (ROOT / value).is_file()
        if option == "-e":
            folder, extra = re.fullmatch(r"(\.)(?:\[(\w+)\])?", value).groups()
            assert folder == "."
            assert extra is None or extra in project["optional-dependencies"]


def test_every_command_of_the_program_is_shown_in_a_document():
    shown = {re.match(r"md2dist ([\w-]+)", command) for command in PROGRAM_COMMANDS.values()}
    assert {match[1] for match in shown if match} == {*COMMANDS} - {"demo"}
    assert any("launch/train.py" in command for command in PROGRAM_COMMANDS.values())
    assert "make demo" in ALL_COMMANDS.values()
