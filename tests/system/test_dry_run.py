"""Dry runs of launch/train.py, as processes."""

import re

import pytest

pytestmark = pytest.mark.slow


def marks_of(process):
    """Returns the mark of each line by its name; those of the plan aside."""
    lines = [re.match(r"(.{13}) (\S+)", line) for line in process.stdout.splitlines()]
    return {line[1].strip(): line[2] for line in lines if line and line[2] != "plan"}


def test_a_dry_run_of_two_ranks_prints_each_line_once_and_writes_nothing(
    run_training, small_shards
):
    words = ["--dry-run=1", f"data.val_shards={small_shards}", "optim.max_steps=6"]
    process, run_dir = run_training("run", *words, num_ranks=2)
    marks = marks_of(process)
    assert set(marks.values()) <= {"ok", "note"}
    assert {"connection", "W&B", "first samples", "disk", "agreement", "speed"} <= set(marks)
    for name in marks:
        assert len(re.findall(rf"^{re.escape(name)} +(ok|note)", process.stdout, re.M)) == 1
    assert "4 samples a step = 2 (micro-batch) x 1 (accumulation) x 2 (ranks)" in process.stdout
    assert re.search(
        r"^samples +plan +12 training samples; an epoch has 3 steps", process.stdout, re.M
    )
    assert re.search(r"^speed +ok +1 steps of .* an epoch takes ", process.stdout, re.M)
    assert not run_dir.exists()


def test_a_dry_run_reports_every_fault_that_it_finds_with_exit_code_2(run_training, tmp_path):
    file = tmp_path / "file"
    file.touch()
    words = ["--dry-run", f"log.run_dir={file}/run", "network.weights=nowhere.pth"]
    process, _ = run_training("run", *words, "data.num_workers=0", expected_code=2)
    marks = marks_of(process)
    assert {name for name in marks if marks[name] == "ERROR"} == {
        "run folder",
        "weights",
        "dry run",
    }
    assert "no file network.weights=nowhere.pth" in process.stdout
    assert "2 of the checks failed" in process.stdout
