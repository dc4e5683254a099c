"""The fault drill with one of its faults; `make drill` runs all of them."""

import sys

import pytest
from conftest import run_command

pytestmark = pytest.mark.slow


def test_a_drill_ends_with_a_table_and_loses_nothing(tmp_path):
    command = [sys.executable, "tests/run_drill.py", "--output", tmp_path]
    process = run_command([*command, "--only", "SIGINT to all"])
    assert process.returncode == 0, process.stdout + process.stderr
    table = (tmp_path / "drill.md").read_text()
    assert "| SIGINT to all processes (Ctrl-C) | preempted" in table
    assert "the same weights, bit for bit" in table
