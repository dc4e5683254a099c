"""The commands of docs/tour.md, in order, on a small demo."""

import re
import shlex
import sys

import pytest
from conftest import run_command
from helpers.documents import blocks_of
from helpers.running_job import ROOT

pytestmark = pytest.mark.slow

SMALL = ["optim.max_steps=2", "optim.warmup_steps=0", "log.every_steps=1"]


def commands_of_the_tour():
    lines = "".join(blocks_of("bash", "docs/tour.md")).replace("\\\n", " ").splitlines()
    demo, activate, *commands = lines
    assert (demo, activate) == ("make demo", "source .venv/bin/activate")
    return [shlex.split(command) for command in commands]


def test_each_command_of_the_tour_works_after_the_demo(tmp_path):
    output = tmp_path / "demo_output"
    small_world = ["--output", output, "--drives", "2", "--frames", "12"]
    commands = [
        [sys.executable, "launch/demo.py", *small_world, *SMALL],
        *([re.sub(r"demo_output", str(output), word) for word in words]
          + (SMALL if "--config" in words else [])
          for words in commands_of_the_tour()),
    ]  # fmt: skip
    for command in commands:
        process = run_command(command, OMP_NUM_THREADS="")
        assert process.returncode == 0, process.stdout + process.stderr
    made = {path.name for path in output.iterdir()}
    assert {"training.png", "report.html", "both.html", "figures.md"} <= made
    assert len(list((output / "worst").glob("*.png"))) == 3
    images = list((output / "kitti/held_out").glob("*/*_sync/image_02/data/*"))
    assert len(list((output / "predictions").glob("*_points.ply"))) == len(images)
    assert (output / "published" / "depth.pth").exists()
    assert ROOT not in output.parents
