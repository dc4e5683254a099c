"""The GPU check itself, on the CPU with small sizes."""

import sys

import pytest
from conftest import run_command

pytestmark = pytest.mark.slow


def test_the_gpu_check_writes_one_table(tmp_path):
    process = run_command([
        sys.executable, "tests/gpu_check.py", "--output", tmp_path / "check", "--device", "cpu",
        "--height", 64, "--width", 96, "--dtype", "fp32", "--steps", 2, "--batch-sizes", 2, 4,
        "--tests", "numeric and not slow and device_check",
    ])  # fmt: skip
    assert process.returncode == 0, process.stdout + process.stderr
    lines = (tmp_path / "check" / "gpu_check.md").read_text().splitlines()
    names = [line.split("|")[1].strip() for line in lines[2:]]
    assert names == ["device", "numeric tests", "training, fp32", "step, batch 2", "step, batch 4"]
    assert "passed" in lines[3]
    assert "2 steps of 2, loss 0." in lines[4]
    assert "samples/s" in lines[5]
