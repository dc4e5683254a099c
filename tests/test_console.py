import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from md2dist.console import print_error

PRINTING = """
import sys
from md2dist.console import run_command
run_command(lambda: print(*range(100_000), sep="\\n"))
"""
OPENING = PRINTING.replace("print(*range(100_000)", "print(open(sys.argv[1])")


def run(script, *words, **streams):
    command = [sys.executable, "-c", script, *words]
    # Without this variable, output is written at the end, or when there is a lot of it.
    environment = {name: os.environ[name] for name in os.environ if name != "PYTHONUNBUFFERED"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, **streams)


def test_a_closed_pipe_ends_a_command_silently():
    with run(PRINTING, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_output_that_cannot_be_written_is_reported_in_one_line():
    with Path("/dev/full").open("w") as full, run(PRINTING, stdout=full) as process:
        assert process.stderr.read() == "error: [Errno 28] No space left on device\n"
    assert process.returncode == 2


@pytest.mark.parametrize("name", ["nowhere", "x" * 300])
def test_a_file_that_cannot_be_opened_is_reported_in_one_line_with_its_name(name):
    with run(OPENING, name, stdout=subprocess.PIPE) as process:
        error = process.stderr.read()
    assert error.startswith(f"error: {name}: ")
    assert error.count("\n") == 1
    assert process.returncode == 2


FAILING = """
import sys
from md2dist.console import run_command
from md2dist.errors import ShardError
def main():
    print("a row")
    raise eval(sys.argv[1])
run_command(main)
"""


@pytest.mark.parametrize(
    ("error", "code", "reported"),
    [
        ("ShardError('shard 3 is damaged')", 2, "error: shard 3 is damaged"),
        ("SystemExit(85)", 85, ""),
        ("RuntimeError('a fault of ours')", 1, "RuntimeError: a fault of ours"),
    ],
)
def test_lost_output_does_not_hide_how_a_command_ended(error, code, reported):
    with Path("/dev/full").open("w") as full, run(FAILING, error, stdout=full) as process:
        lines = process.stderr.read().splitlines() or [""]
    assert (process.returncode, lines[-1]) == (code, reported)


def test_a_command_may_run_without_a_standard_output():
    with run(f"import sys; sys.stdout = None\n{PRINTING}") as process:
        assert process.stderr.read() == ""
    assert process.returncode == 0


NAMES = """
import os, sys
from md2dist.console import run_command
def main():
    print(os.fsdecode(b"stra\\xdfe.png"), "\\u00e9")
run_command(main)
"""


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_a_name_that_the_terminal_cannot_show_is_escaped(encoding):
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    command = [sys.executable, "-c", NAMES]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"stra\\udcdfe.png ")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_line_replaces_the_progress_bar_of_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal(" 40%|####      | 4/10"))
    sys.stderr.seek(0, io.SEEK_END)
    print_error("shard 3 is damaged")
    assert sys.stderr.getvalue().endswith("| 4/10\r\x1b[Kerror: shard 3 is damaged\n")


def test_a_line_in_a_file_has_no_control_characters(capsys):
    print_error("shard 3 is damaged")
    assert capsys.readouterr().err == "error: shard 3 is damaged\n"


class LostTerminal(io.StringIO):
    def write(self, text):
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize("stream", [None, LostTerminal()])
def test_a_line_that_cannot_be_printed_is_no_error(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    print_error("shard 3 is damaged")


LOSING = """
import sys
from datetime import timedelta
from md2dist.console import run_command
def main():
    from torch.distributed import DistError, TCPStore
    first = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    second = TCPStore("localhost", first.port, is_master=False, timeout=timedelta(seconds=20))
    del first
    try:
        second.get("key")
    except DistError as error:
        sys.exit(3)
run_command(main)
"""


@pytest.mark.slow
def test_torch_adds_no_stacks_of_its_own_to_a_lost_connection():
    with run(LOSING) as process:
        errors = process.stderr.read()
    assert (process.returncode, errors) == (3, "")
