"""A small demo, and the commands of docs/tour.md after it, in order."""

import json
import re
import shlex
import sys
from pathlib import Path

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


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder of a small demo, and its process."""
    output = tmp_path_factory.mktemp("tour") / "demo_output"
    small_world = ["--output", output, "--drives", "2", "--frames", "12"]
    command = [sys.executable, "launch/demo.py", *small_world, *SMALL]
    process = run_command(command, OMP_NUM_THREADS="")
    assert process.returncode == 0, process.stdout + process.stderr
    return output, process


def test_the_demo_ends_with_a_summary_of_its_results(demo):
    output, process = demo
    assert "warning" not in process.stdout + process.stderr
    summary = json.loads((output / "summary.json").read_text())
    assert 0 < summary["row_profile_abs_rel"] < 1
    assert 0 < summary["baseline_abs_rel"] < 1
    assert summary["abs_rel"] / summary["baseline_abs_rel"] == pytest.approx(
        summary["ratio"], abs=1e-3
    )
    for name in ("shards", "run", "metrics", "picture"):
        assert Path(summary[name]).exists()
        assert summary[name] in process.stdout
    assert json.loads((output / "run" / "status.json").read_text())["status"] == "finished"


def test_each_command_of_the_tour_works_after_the_demo(demo):
    output, _ = demo
    for words in commands_of_the_tour():
        command = [re.sub(r"demo_output", str(output), word) for word in words]
        command += SMALL if "--config" in words else []
        process = run_command(command, OMP_NUM_THREADS="")
        assert process.returncode == 0, process.stdout + process.stderr
    made = {path.name for path in output.iterdir()}
    assert {"training.png", "report.html", "both.html", "figures.md"} <= made
    assert len(list((output / "worst").glob("*.png"))) == 3
    images = list((output / "kitti/held_out").glob("*/*_1001_sync/image_02/data/*"))
    assert len(list((output / "predictions").glob("*_points.ply"))) == len(images)
    assert (output / "published" / "depth.pth").exists()
    assert ROOT not in output.parents
