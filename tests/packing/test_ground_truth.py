"""Annotated depth: packing, reading back, evaluation."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from helpers.kitti_tree import (
    DATE,
    DRIVE,
    HEIGHT,
    WIDTH,
    write_annotated,
    write_archive,
    write_kitti_tree,
)
from helpers.packing_command import pack_lines
from PIL import Image
from reference import evaluation as reference

from md2dist.data.inspection.verification import verify_shards
from md2dist.data.kitti.layout import CAMERAS, find_annotated, list_drives
from md2dist.data.kitti.splits import SplitLine
from md2dist.data.kitti.tree import SourceTree
from md2dist.data.shards.dataset import ShardDataset
from md2dist.data.shards.recipe import Recipe
from md2dist.errors import KittiDataError
from md2dist.evaluation.depth import evaluate_depth
from md2dist.evaluation.protocols import choose_protocol

RECIPE = Recipe("small", 32, 64, (), use_stereo=False, ground_truth="annotated", order="sequential")
LINES = [SplitLine(DRIVE, frame, side) for side in "lr" for frame in range(4)]
SCRIPT = Path(__file__).parents[2] / "shard_tools" / "make_shards.py"


@pytest.fixture
def roots(tmp_path):
    """Folders of KITTI raw and of the annotated depth."""
    write_kitti_tree(tmp_path / "raw")
    write_annotated(tmp_path / "depth" / "train")
    return tmp_path / "raw", tmp_path / "depth"


def map_path(roots, frame, side):
    return roots[1] / find_annotated(SourceTree(*roots), DRIVE, frame, side)


def pack(roots, output, lines=LINES, **options):
    return pack_lines(SourceTree(*roots), output, lines, RECIPE, **options)


def test_shards_hold_the_maps_of_their_lines_and_pass_verification(roots, tmp_path):
    manifest = pack(roots, tmp_path / "out")
    assert manifest.recipe.ground_truth == "annotated"
    for line, sample in zip(LINES, ShardDataset(tmp_path / "out"), strict=True):
        counts = np.asarray(Image.open(map_path(roots, line.frame, line.side)))
        assert sample.key == line.key
        np.testing.assert_array_equal(sample.ground_truth, counts / 256)
    assert verify_shards(tmp_path / "out", decode="all").faults == []


def test_the_bytes_are_those_of_the_archive_without_unpacking_it(roots, tmp_path):
    extracted = pack(roots, tmp_path / "out")
    (tmp_path / "archives").mkdir()
    files = sorted(path for path in roots[1].rglob("*.png"))
    write_archive(tmp_path / "archives" / "data_depth_annotated.zip", roots[1], files)
    assert pack([roots[0], tmp_path / "archives"], tmp_path / "again") == extracted


@pytest.mark.parametrize("part", ["val/", ""])
def test_maps_are_found_below_val_and_without_a_part(roots, part):
    (roots[1] / "train").rename(roots[1] / "val")
    tree = SourceTree(roots[1] if part else roots[1] / "val")
    drive = DRIVE.partition("/")[2]
    expected = f"{part}{drive}/proj_depth/groundtruth/image_03/0000000002.png"
    assert find_annotated(tree, DRIVE, 2, "r") == expected


def test_a_frame_without_a_map_stops_the_packing_or_is_listed(roots, tmp_path):
    map_path(roots, 2, "r").unlink()
    words = r"no annotated depth .*_0005_sync/.*/image_03/0000000002\.png.*--kitti-root"
    with pytest.raises(KittiDataError, match=f"{words}.*--skip-bad"):
        pack(roots, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    manifest = pack(roots, tmp_path / "out", skip_bad=True)
    assert manifest.num_samples == 7
    ((line, reason, _),) = manifest.skipped
    assert line == f"{DRIVE} 2 r"
    assert "image_03/0000000002.png" in reason


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def write_as(*counts, dtype):
    return lambda path: Image.fromarray(np.array([counts], dtype)).save(path)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (truncate, "0000000001.png is broken"),
        (write_as(0, 255, dtype=np.uint8), "0000000001.png is not 16-bit greyscale"),
        (write_as(0, 0, dtype=np.uint16), "0000000001.png .*has no known pixel"),
        (
            lambda path: Image.new("I;16", (WIDTH, HEIGHT), 65535).save(path),
            "0000000001.png, the ground truth of .* 1 l, has depths from 255.996 to 255.996 m",
        ),
        (write_as(9, 9, dtype=np.uint16), f"0001.png has 1x2 pixels, expected {HEIGHT}x{WIDTH}"),
    ],
)
def test_a_broken_map_is_named(roots, tmp_path, harm, words):
    harm(map_path(roots, 1, "l"))
    with pytest.raises(KittiDataError, match=words):
        pack(roots, tmp_path / "out")
    assert pack(roots, tmp_path / "out", skip_bad=True).num_samples == 7


def test_annotated_depth_beside_the_drives_is_no_drive(roots):
    (roots[1] / "train").rename(roots[0] / "train")
    assert list_drives(SourceTree(roots[0])) == [DRIVE]
    assert find_annotated(SourceTree(roots[0]), DRIVE, 0, "l").startswith("train/")


def test_the_maps_of_two_archives_are_not_mixed(roots):
    files = sorted((roots[1] / "train").rglob("*.png"))
    write_archive(roots[0] / "data_depth_annotated.zip", roots[1], files)
    words = r"is present in data_depth_annotated\.zip \(folder 1\) and extracted \(folder 2\)"
    with pytest.raises(KittiDataError, match=words):
        find_annotated(SourceTree(*roots), DRIVE, 0, "l")


def test_any_webdataset_client_can_read_the_maps(roots, tmp_path):
    pack(roots, tmp_path / "out")
    url = str(tmp_path / "out" / "shard-000000.tar")
    first = next(iter(webdataset.WebDataset([url], shardshuffle=False).decode("rgb")))
    stored = first["annotated.npz"]
    known = np.unpackbits(stored["known"]).astype(bool)
    depth = np.zeros(stored["shape"])
    depth.flat[known] = stored["depth"] / 256
    np.testing.assert_array_equal(depth, ShardDataset(tmp_path / "out")[0].ground_truth)


@pytest.mark.slow
def test_the_command_takes_several_roots_and_reports_what_it_skipped(roots, tmp_path):
    map_path(roots, 2, "r").unlink()
    (tmp_path / "split.txt").write_text("\n".join(map(str, LINES)))
    options = ["--split", tmp_path / "split.txt", "--output", tmp_path / "out", "--skip-bad"]
    options += ["--ground-truth", "annotated", "--frame-offsets", "--no-stereo"]
    words = [sys.executable, SCRIPT, "--kitti-root", *roots, *options]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"skipped {DRIVE} 2 r: no annotated depth" in done.stdout
    assert "7 samples in 1 shards" in done.stdout


@pytest.mark.slow
def test_real_maps_get_the_metrics_of_the_slow_twin(kitti_raw, shared, tmp_path):
    annotated = shared / "kitti" / "data_depth_annotated"
    if not annotated.is_dir():
        pytest.skip(f"no annotated depth at {annotated}")
    drive = f"{DATE}/{DATE}_drive_0001_sync"
    lines = [SplitLine(drive, frame, side) for frame, side in ((5, "l"), (12, "r"), (16, "l"))]
    recipe = dataclasses.replace(RECIPE, height=192, width=640)
    pack_lines(SourceTree(kitti_raw, annotated), tmp_path, lines, recipe)
    assert verify_shards(tmp_path, decode="all").faults == []
    dataset = ShardDataset(tmp_path)

    def predict(frames):
        rows = torch.linspace(0.02, 0.4, frames.shape[1], dtype=torch.float64)
        return (frames.double().mean(-1) / 2550 + rows[:, None])[:, None]

    report = evaluate_depth(
        predict, dataset, protocol=choose_protocol(recipe, tmp_path), scaling="median"
    )
    rows = []
    for line, sample in zip(lines, dataset, strict=True):
        file = f"image_0{CAMERAS[line.side]}/{line.frame:010d}.png"
        path = annotated / drive.partition("/")[2] / "proj_depth" / "groundtruth" / file
        counts = np.asarray(Image.open(path))
        disparity = predict(torch.tensor(sample.frames["0"])[None])[0, 0].tolist()
        rows.append(reference.evaluate_image(disparity, counts / 256, "eigen_benchmark", "median"))
    np.testing.assert_allclose(report.metrics, np.mean(rows, axis=0)[:7], rtol=1e-12)
    assert report.num_images == 3
