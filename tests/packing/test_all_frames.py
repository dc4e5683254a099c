"""The split `all` of KITTI trees; that of own videos is in tests/recordings."""

import dataclasses
import shutil

import pytest
from helpers.kitti_tree import DATE, DRIVE, image_path, scan_path, write_kitti_tree
from helpers.odometry_tree import write_odometry_tree

from md2dist.data.kitti.source import KittiSource
from md2dist.data.kitti.tree import SourceTree
from md2dist.data.packing.all_frames import select_all
from md2dist.data.shards.recipe import Recipe
from md2dist.errors import ConfigError, KittiDataError, SplitError

RECIPE = Recipe("all", 32, 64, (-1, 1), use_stereo=True)
MONO = dataclasses.replace(RECIPE, use_stereo=False)


@pytest.fixture
def root(tmp_path):
    write_kitti_tree(tmp_path / "kitti", num_frames=6, use_scans=True)
    return tmp_path / "kitti"


def select(root, recipe=RECIPE, **options):
    return [
        str(line) for line in select_all(KittiSource(SourceTree(root)), recipe, **options).lines
    ]


def lines(*frames, sides="lr", drive=DRIVE):
    return [f"{drive} {frame} {side}" for frame in frames for side in sides]


def test_every_frame_with_its_neighbours_and_the_other_camera_is_taken(root):
    assert select(root) == lines(1, 2, 3, 4)
    assert select(root, dataclasses.replace(RECIPE, frame_offsets=(-2, 1))) == lines(2, 3, 4)
    assert select(root, dataclasses.replace(RECIPE, frame_offsets=())) == lines(*range(6))
    image_path(root, DRIVE, 4, "r").unlink()
    assert select(root) == [*lines(1, 2), f"{DRIVE} 3 l"]
    assert select(root, MONO) == [*lines(1, 2), f"{DRIVE} 3 l", f"{DRIVE} 4 l"]


def test_frames_without_the_requested_ground_truth_are_left_out(root):
    scan_path(root, 2).unlink()
    recipe = dataclasses.replace(RECIPE, ground_truth="velodyne")
    assert select(root, recipe) == lines(1, 3, 4)
    with pytest.raises(
        KittiDataError, match=r"none of its 12 images .* ground truth \(annotated\)"
    ):
        select(root, dataclasses.replace(RECIPE, ground_truth="annotated"))
    with pytest.raises(ConfigError, match="--ground-truth depth is that of --frames"):
        select(root, dataclasses.replace(RECIPE, ground_truth="depth"))


def test_drives_and_sequences_of_any_name_are_taken_but_no_unrectified_ones(root):
    write_odometry_tree(root, root)
    (root / "sequences" / "09").rename(root / "sequences" / "my-park_2")
    shutil.copytree(root / DRIVE, root / DATE / f"{DATE}_drive_0005_extract")
    shutil.copytree(root / DATE, root / "monday", ignore=shutil.ignore_patterns("2011*"))
    shutil.copytree(root / DRIVE, root / "monday" / "run1")
    names = [DRIVE, "monday/run1", "my-park_2"]
    assert select(root) == [line for name in names for line in lines(1, 2, 3, 4, drive=name)]
    assert select(root, hold_out=names[:2]) == lines(1, 2, 3, 4, drive=names[2])
    assert select(root, only=names[1:2]) == lines(1, 2, 3, 4, drive=names[1])
    with pytest.raises(SplitError, match=f"--hold-out run1: no such sequence; .* {DRIVE}, monday"):
        select(root, hold_out=["run1"])


def test_a_sequence_without_a_sample_is_an_error_or_skipped(root):
    other = DRIVE.replace("0005", "0001")
    shutil.copytree(root / DRIVE / "image_02", root / other / "image_02")
    with pytest.raises(KittiDataError, match=f"{other}: .*image_03/data is missing.*--skip-bad"):
        select(root)
    found = select_all(KittiSource(SourceTree(root)), RECIPE, skip_bad=True)
    assert [line.drive for line in found.skipped] == [other]
    assert str(found).startswith(f"all: 8 samples of 1 sequences ({DRIVE})")
