"""Laser scans that are none: packing refuses them, as verification does."""

import numpy as np
import pytest
from helpers.damaged_shards import found
from helpers.kitti_tree import DRIVE, scan_path, write_kitti_tree
from helpers.packing_command import pack_lines, skipped_in

from md2dist.data.kitti.splits import SplitLine
from md2dist.data.shards.recipe import Recipe
from md2dist.errors import KittiDataError

RECIPE = Recipe("small", 32, 64, (), False, ground_truth="velodyne", order="sequential")
LINES = [SplitLine(DRIVE, frame, "l") for frame in range(3)]
SCAN = r"laser scan .*/0000000001\.bin"
IMPOSSIBLE = rf"{SCAN}: \d+ of its \d+ points are impossible; expected float32 x, y, z within"
SEEN = r"/0000000001\.bin, the ground truth of .* 1 l, has "
UNSEEN = f"{SEEN}no depth"


@pytest.fixture
def tree(tmp_path):
    write_kitti_tree(tmp_path / "kitti", use_scans=True)
    return tmp_path / "kitti"


def pack(tree, output, *, skip_bad=False):
    return pack_lines(tree, output, LINES, RECIPE, skip_bad=skip_bad)


def filled_with(value):
    return lambda points: np.full_like(points, value)


def moved(column, metres):
    return lambda points: points + np.float32([metres if i == column else 0 for i in range(4)])


def with_one(value):
    def change(points):
        points[7, 1] = value
        return points

    return change


def of_text(text):
    return lambda points: np.frombuffer(text.encode() * 16, np.uint8)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (filled_with(np.nan), IMPOSSIBLE),
        (filled_with(np.inf), IMPOSSIBLE),
        (filled_with(-np.inf), IMPOSSIBLE),
        (with_one(np.nan), rf"{SCAN}: 1 of its 500 points are impossible"),
        (with_one(np.inf), rf"{SCAN}: 1 of its 500 points are impossible"),
        (lambda points: points.astype(np.float64), IMPOSSIBLE),
        (lambda points: points.astype(">f4"), IMPOSSIBLE),
        (lambda points: points.astype(np.float16), IMPOSSIBLE),
        (lambda points: points[:, :3], IMPOSSIBLE),
        (lambda points: np.hstack([points, points[:, :1]]), IMPOSSIBLE),
        (of_text("version https://git-lfs.github.com/spec/v1\n"), IMPOSSIBLE),
        (of_text("12.5 -3.25 0.75 0.33\n"), SEEN),
        (filled_with(0), UNSEEN),
        (moved(0, -50), UNSEEN),
        (moved(1, 500), UNSEEN),
        (moved(2, -500), UNSEEN),
        (lambda points: points * np.float32([1e-5, 1e-5, 1e-5, 1]), f"{SEEN}depths from"),
        (lambda points: points.tobytes()[:-4], rf"{SCAN} has 7996 bytes; .* multiple of 16"),
        (lambda points: b"", rf"{SCAN} has 0 bytes"),
    ],
)
def test_a_scan_that_is_none_is_refused_or_skipped(tree, tmp_path, change, words):
    path = scan_path(tree, 1)
    content = change(np.fromfile(path, np.float32).reshape(-1, 4))
    path.write_bytes(content if isinstance(content, bytes) else content.tobytes())
    with pytest.raises(KittiDataError, match=words):
        pack(tree, tmp_path / "out")
    pack(tree, tmp_path / "out", skip_bad=True)
    assert list(skipped_in(tmp_path / "out")) == [str(LINES[1])]
    assert found(tmp_path / "out") == []


@pytest.mark.parametrize("values", ["0 0 0 nan", "nan 0 0 0", "0 0 0 inf"])
def test_a_calibration_that_places_no_point_in_the_image_is_refused(tree, tmp_path, values):
    path = tree / DRIVE.partition("/")[0] / "calib_velo_to_cam.txt"
    numbers = values.split()
    text = f"R: {' '.join([numbers[0], *['0'] * 8])}\nT: {' '.join(numbers[1:])}\n"
    path.write_text(text)
    with pytest.raises(KittiDataError, match=r"has no depth.*correct the calibration"):
        pack(tree, tmp_path / "out")


def test_a_scan_of_which_one_point_is_seen_is_packed(tree, tmp_path):
    points = np.fromfile(scan_path(tree, 1), np.float32).reshape(-1, 4)
    points[1:, 0] = -30
    points[0, :3] = (9, 0, 0)
    scan_path(tree, 1).write_bytes(points.tobytes())
    assert pack(tree, tmp_path / "out").num_samples == 3
    assert found(tmp_path / "out") == []
