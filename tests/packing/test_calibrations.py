"""Calibrations: packing refuses what verification refuses, and nothing else."""

import dataclasses
import math

import numpy as np
import pytest
from helpers.damaged_shards import found
from helpers.kitti_tree import (
    BASELINE,
    CX,
    CY,
    DATE,
    DRIVE,
    FX,
    HEIGHT,
    WIDTH,
    image_path,
    write_entries,
    write_kitti_tree,
)
from helpers.odometry_tree import SEQUENCE, write_odometry_tree
from helpers.packing_command import pack_plan

from md2dist.data.kitti.source import KittiSource
from md2dist.data.kitti.splits import SplitLine
from md2dist.data.kitti.tree import SourceTree
from md2dist.data.loading.collate import collate_samples
from md2dist.data.packing import camera_check, sample_packer
from md2dist.data.packing.plan import plan_samples
from md2dist.data.shards.dataset import ShardDataset
from md2dist.data.shards.recipe import Recipe
from md2dist.errors import KittiDataError, ShardError

RECIPE = Recipe("small", 32, 64, (-1, 1), use_stereo=True)
NATIVE = dataclasses.replace(RECIPE, height=None, width=None)
FRACTIONS = "These are fractions of the image: multiply by its size"
OTHER_SIZE = "K of another image size"


def camera(fx=FX, fy=FX, cx=CX, cy=CY, baseline=BASELINE):
    """Returns P of the left and the right camera."""
    left = np.array([[fx, 0, cx, 0], [0, fy, cy, 0], [0, 0, 1, 0]], np.float64)
    right = left.copy()
    right[0, 3] = -fx * baseline
    return left, right


def scaled(width, height, baseline=BASELINE):
    """Returns the cameras in pixels of another image size."""
    x, y = width / WIDTH, height / HEIGHT
    return camera(x * FX, y * FX, x * CX, y * CY, baseline)


def changed(row, column, value, only=(0, 1)):
    cameras = camera()
    for number in only:
        cameras[number][row, column] = value
    return cameras


GOOD = {
    "published": camera(0.58 * WIDTH, 1.92 * HEIGHT, 0.5 * WIDTH, 0.5 * HEIGHT),
    "wide": camera(0.4 * WIDTH, 0.4 * WIDTH),
    "cropped sky": camera(cy=0.3 * HEIGHT),
    "resized before from 4:3": camera(FX, 0.4 * FX),
    "other rig": camera(baseline=0.2),
}
BAD = {
    "fractions": (camera(0.58, 1.92, 0.5, 0.5), FRACTIONS),
    "fractions of a centred system": (camera(0.58, 1.92, 0, 0), FRACTIONS),
    "twice the size": (scaled(2 * WIDTH, 2 * HEIGHT), OTHER_SIZE),
    "half the size": (scaled(WIDTH / 2, HEIGHT / 2), OTHER_SIZE),
    "two thirds of the size": (scaled(WIDTH / 1.5, HEIGHT / 1.5), OTHER_SIZE),
    "real KITTI": (camera(721.5, 721.5, 609.6, 172.9), OTHER_SIZE),
    "width and height exchanged": (camera(cx=CY, cy=CX), OTHER_SIZE),
    "principal point outside": (camera(cy=-5), "principal point"),
    "one long focal length": (camera(fx=4 * FX, fy=FX * 0.9), "expected a ratio of at most 4"),
    "no focal length": (camera(fx=0, fy=0), "expected focal lengths > 0|fractions"),
    "negative": (camera(fx=-FX), "expected focal lengths > 0"),
    "NaN": (changed(0, 0, math.nan), "P2 is not finite"),
    "infinite": (changed(1, 2, math.inf), "P2 is not finite"),
    "all NaN": ((np.full((3, 4), math.nan),) * 2, "P2 is not finite"),
    "zeros": ((np.zeros((3, 4)),) * 2, "P2 is not of the form"),
    "skew": (changed(0, 1, 3), "P2 is not of the form"),
    "transposed": (tuple(np.hstack([p[:, :3].T, p[:, 3:]]) for p in camera()), "not of the form"),
    "no baseline": (camera(baseline=0), "P2 and P3: has a baseline of 0 m"),
    "NaN baseline": (changed(0, 3, math.nan, only=[1]), "has a baseline of nan m"),
    "cameras exchanged": (camera()[::-1], "has a baseline of -0.5 m"),
    "baseline in mm": (camera(baseline=540), "has a baseline of 540 m"),
    "other camera of zeros": ((camera()[0], np.zeros((3, 4))), "has a baseline of (nan|-?inf) m"),
}  # fmt: skip


@pytest.fixture
def video(tmp_path):
    """A sequence of one's own camera."""
    write_kitti_tree(tmp_path / "raw")
    write_odometry_tree(tmp_path / "raw", tmp_path / "video")
    return tmp_path / "video"


def calibrate(root, cameras, drive=SEQUENCE):
    left, right = cameras
    if drive == SEQUENCE:
        entries = {"P0": left, "P1": right, "P2": left, "P3": right}
        write_entries(root / "sequences" / SEQUENCE / "calib.txt", entries)
        return
    path = root / DATE / "calib_cam_to_cam.txt"
    P = {"P_rect_02": left, "P_rect_03": right}
    lines = [line for line in path.read_text().splitlines() if line[:9] not in P]
    lines += [f"{name}: {' '.join(map(str, rows.ravel()))}" for name, rows in P.items()]
    path.write_text("\n".join(lines))


def plan(root, recipe=RECIPE, drive=SEQUENCE, *, skip_bad=False):
    lines = [SplitLine(drive, frame, "l") for frame in (1, 2)]
    return plan_samples(KittiSource(SourceTree(root)), lines, recipe, skip_bad=skip_bad)


def pack_unchecked(root, output, recipe):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("check_intrinsics", "check_baseline"):
            patch.setattr(camera_check, name, lambda *arguments: [])
        patch.setattr(sample_packer, "check_sample", lambda *arguments, **options: [])
        pack_plan(plan(root, recipe), output)


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("recipe", [RECIPE, NATIVE], ids=["resized", "native"])
@pytest.mark.parametrize("name", [*GOOD, *BAD])
def test_packing_refuses_before_it_packs_what_verification_refuses(video, tmp_path, name, recipe):
    cameras, words = BAD[name] if name in BAD else (GOOD[name], "")
    calibrate(video, cameras)
    pack_unchecked(video, tmp_path / "unchecked", recipe)
    faults = found(tmp_path / "unchecked")
    if not words:
        assert faults == []
        pack_plan(plan(video, recipe), tmp_path / "out")
        return
    assert len(faults) >= 2  # of both samples
    expected = rf"{SEQUENCE} 1 l: sequences/{SEQUENCE}/calib\.txt: .*({words}).*--skip-bad"
    with pytest.raises(KittiDataError, match=expected):
        plan(video, recipe)
    with pytest.raises(KittiDataError, match=rf"nothing to pack .*({words})"):
        plan(video, recipe, skip_bad=True)


@pytest.mark.parametrize("name", ["fractions", "half the size", "NaN", "zeros", "no baseline"])
def test_the_calibration_of_a_drive_of_raw_is_checked_too(video, tmp_path, name):
    calibrate(tmp_path / "raw", BAD[name][0], DRIVE)
    words = BAD[name][1].replace("P2", "P_rect_02").replace("P3", "P_rect_03")
    with pytest.raises(KittiDataError, match=rf"{DATE}/calib_cam_to_cam\.txt: .*{words}"):
        plan(tmp_path / "raw", drive=DRIVE)


@pytest.mark.parametrize("size", ["0 0", "nan nan", "-160 48", "1e9 1e9"])
def test_a_calibration_states_sizes_of_images(video, tmp_path, size):
    path = tmp_path / "raw" / DATE / "calib_cam_to_cam.txt"
    lines = path.read_text().splitlines()
    lines = [f"S_rect_02: {size}" if line.startswith("S_rect_02") else line for line in lines]
    path.write_text("\n".join(lines))
    with pytest.raises(KittiDataError, match=r"calib_cam_to_cam\.txt: the entries S_rect are"):
        plan(tmp_path / "raw", drive=DRIVE)


def test_a_single_camera_needs_no_other_one(video, tmp_path):
    calibrate(video, (camera()[0], np.zeros((3, 4))))
    mono = dataclasses.replace(RECIPE, use_stereo=False)
    pack_plan(plan(video, mono), tmp_path / "out")
    assert found(tmp_path / "out") == []
    assert ShardDataset(tmp_path / "out")[0].info["baseline"] == 0


def test_a_damaged_image_does_not_hide_a_bad_calibration(video):
    calibrate(video, BAD["half the size"][0])
    path = image_path(video, SEQUENCE, 1, "l")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(KittiDataError, match=f"2 l: .*{OTHER_SIZE}"):
        plan(video)


def test_an_implausible_drive_is_skipped_and_the_others_are_packed(video, tmp_path):
    calibrate(video, BAD["fractions"][0])
    (video / DATE).symlink_to(tmp_path / "raw" / DATE)
    lines = [SplitLine(drive, 1, "l") for drive in (SEQUENCE, DRIVE)]
    planned = plan_samples(KittiSource(SourceTree(video)), lines, RECIPE, skip_bad=True)
    assert [sample.line for sample in planned.samples] == lines[1:]
    (skipped,) = planned.skipped
    assert str(skipped) == str(lines[0])
    assert FRACTIONS in skipped.reason


def test_a_training_does_not_use_an_implausible_k(video, tmp_path):
    calibrate(video, BAD["fractions"][0])
    pack_unchecked(video, tmp_path / "out", RECIPE)
    shards = ShardDataset(tmp_path / "out")
    sample = {**shards.raw(0), "__id__": 0}
    collate_samples(shards, [sample], ["0"])  # with the K of the published recipe
    with pytest.raises(ShardError, match=r"sample 0 .*its K has .* These are fractions"):
        collate_samples(shards, [sample], ["0"], use_true_intrinsics=True)
