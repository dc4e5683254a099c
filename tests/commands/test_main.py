import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.small_shards import write_small_shards

from md2dist.commands import main as program
from md2dist.config import load_config

ROOT = Path(__file__).parents[2]
COMMANDS = ROOT / "md2dist" / "commands"
PROGRAMS = sorted([*(ROOT / "launch").glob("*.py"), *(ROOT / "shard_tools").glob("*.py")])


def run_program(*words):
    command = [sys.executable, "-m", "md2dist.commands.main", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def first_line(path):
    return ast.get_docstring(ast.parse(path.read_text())).splitlines()[0]


def test_every_command_of_the_folder_is_listed_with_its_description():
    sources = {path: path.read_text() for path in COMMANDS.glob("*.py")}
    files = {path.stem: path for path, source in sources.items() if "\ndef main(" in source}
    modules = {program.module_of(name): name for name in program.COMMANDS}
    assert {*modules, "main"} == set(files)
    listed = program.describe_commands()
    for module, name in modules.items():
        assert f"  {name:21}{first_line(files[module])}\n" in listed


@pytest.mark.parametrize("program_file", PROGRAMS, ids=lambda path: path.name)
def test_a_program_of_launch_or_shard_tools_only_calls_its_command(program_file):
    tree = ast.parse(program_file.read_text())
    command = tree.body[1].module.removeprefix("md2dist.commands.")
    assert command in map(program.module_of, program.COMMANDS)
    expected = f'''"""{first_line(COMMANDS / f"{command}.py")}"""

from md2dist.commands.{command} import main
from md2dist.console import run_command

if __name__ == "__main__":
    run_command(main)
'''
    assert program_file.read_text() == expected


def test_every_command_has_a_program_of_its_own():
    texts = [path.read_text() for path in PROGRAMS]
    for module in map(program.module_of, program.COMMANDS):
        assert sum(f"md2dist.commands.{module} import main" in text for text in texts) == 1


def test_a_command_gets_the_arguments_after_its_name(tmp_path):
    folder = write_small_shards(tmp_path / "shards")
    done = run_program("verify", folder)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (
        0,
        f"{folder}: 10 of 10 samples found in 3 shards, 0 faults",
    )
    done = run_program("verify", tmp_path / "nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path / 'nowhere'}")


def test_the_help_of_a_command_shows_its_name():
    assert run_program("verify", "--help").stdout.startswith("usage: md2dist verify ")


def test_the_help_shows_the_defaults_that_exist_as_they_are_typed():
    text = " ".join(run_program("pack", "--help").stdout.split())
    assert "offsets of the neighbouring frames to pack (default: -1 1)" in text
    assert "replace the shards in the output folder" in text
    assert not {"(default: None)", "(default: False)"} & {*re.findall(r"\(default: [^)]*\)", text)}


def test_the_help_keeps_the_lines_of_examples():
    lines = run_program("pack", "--help").stdout.splitlines()
    assert "    md2dist pack ... --num-tasks 8 --merge" in lines


HELP = """
import io, sys
from contextlib import redirect_stdout, suppress
from md2dist.commands import main
for name in main.COMMANDS:
    sys.argv = ["md2dist", name, "--help"]
    with redirect_stdout(io.StringIO()) as shown, suppress(SystemExit):
        main.main()
    assert f"usage: md2dist {name}" in shown.getvalue(), name
    heavy = {"torch", "deepspeed", "wandb", "matplotlib"} & sys.modules.keys()
    assert not heavy, (name, heavy)
"""


def test_the_help_of_no_command_imports_a_library_that_takes_seconds():
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_unknown_command_is_an_error_that_lists_all_commands():
    done = run_program("evalute")
    assert done.returncode == 2
    assert "error: md2dist has no command evalute" in done.stderr
    assert "  evaluate  " in done.stderr


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_without_a_command_all_are_listed(words):
    done = run_program(*words)
    assert done.returncode == 0
    assert done.stdout == program.describe_commands()


def test_the_configs_of_the_package_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(["configs/stereo.yaml"]) == load_config([ROOT / "configs" / "stereo.yaml"])
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "stereo.yaml").write_text("seed: 7\n")  # a local file takes precedence
    assert load_config(["configs/stereo.yaml"]).seed == 7
