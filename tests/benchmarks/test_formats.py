import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.kitti_tree import write_kitti_tree

from md2dist.benchmarks.formats import bench_formats
from md2dist.data.kitti.source import KittiSource
from md2dist.data.kitti.splits import SplitLine
from md2dist.data.kitti.tree import SourceTree
from md2dist.data.packing.merge import merge_shards
from md2dist.data.packing.plan import plan_samples
from md2dist.data.packing.writer import pack_shards
from md2dist.data.shards.recipe import Recipe
from md2dist.errors import ConfigError

RECIPE = Recipe("small", 32, 64, (-1, 1), use_stereo=True)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def lines(tmp_path):
    words = [line.split() for line in write_kitti_tree(tmp_path / "kitti")]
    return [SplitLine(drive, int(frame), side) for drive, frame, side in words]


def test_each_format_is_packed_as_by_users_and_leaves_no_files(tmp_path, lines, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    rows = bench_formats(KittiSource(SourceTree(tmp_path / "kitti")), lines, RECIPE, 2)
    assert [row["image_format"] for row in rows] == ["png", "jpg 95", "webp"]
    for row in rows:
        recipe = replace(RECIPE, image_format=row["image_format"].split()[0])
        plan = plan_samples(KittiSource(SourceTree(tmp_path / "kitti")), lines, recipe)
        pack_shards(plan, tmp_path / row["image_format"])
        (shard,) = merge_shards(plan, tmp_path / row["image_format"]).shards
        assert row["bytes_per_sample"] == shard.num_bytes / 4
        assert (row["samples"], row["views"], row["images"]) == (4, 4, 8)
        assert row["images_per_second_per_core"] > 0
        assert row["decode_ms_per_sample"] > 0
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("num", [0, 1])
def test_nothing_to_time_is_an_error(tmp_path, lines, num):
    with pytest.raises(ConfigError, match=f"--repeats {num}, and {4 - 4 * num} samples"):
        bench_formats(
            KittiSource(SourceTree(tmp_path / "kitti")), lines[: 4 - 4 * num], RECIPE, num
        )


def test_a_file_that_cannot_be_written_is_refused_before_the_measurement(tmp_path):
    words = ["launch/bench.py", "formats", "--kitti-root", "nowhere", "--split", "rule/train"]
    command = [sys.executable, *words, "--output", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path} is a folder; expected the name of a file\n"


@pytest.mark.slow
def test_the_command_prints_a_row_per_format_without_the_libraries_of_training(tmp_path, lines):
    (tmp_path / "split.txt").write_text("\n".join(map(str, lines)))
    output = tmp_path / "figures.json"
    words = ["bench.py", "formats", "--kitti-root", tmp_path / "kitti", "--samples", 2]
    words += ["--split", tmp_path / "split.txt", "--repeats", 1, "--output", output]
    program = (
        f"import runpy, sys; sys.argv = {list(map(str, words))}; "
        "runpy.run_path('launch/bench.py', run_name='__main__'); "
        "assert not {'deepspeed', 'wandb'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    table = done.stdout.splitlines()
    assert [line.split(" | ")[1] for line in table[2:]] == ["png", "jpg 95", "webp"]
    figures = json.loads(output.read_text())
    assert [row["samples"] for row in figures] == [2, 2, 2]
