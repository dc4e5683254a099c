"""Sizes of images: packing refuses what verification or the calibration does not allow."""

import dataclasses

import numpy as np
import pytest
from helpers.damaged_shards import found
from helpers.kitti_tree import DRIVE, HEIGHT, WIDTH, write_annotated, write_kitti_tree
from helpers.odometry_tree import SEQUENCE, write_odometry_tree
from helpers.packing_command import pack_lines
from PIL import Image

from md2dist.data.kitti.splits import SplitLine
from md2dist.data.shards.recipe import Recipe
from md2dist.errors import KittiDataError

RECIPE = Recipe("small", 32, 64, (-1, 1), use_stereo=True)
NATIVE = dataclasses.replace(RECIPE, height=None, width=None)


@pytest.fixture
def raw(tmp_path):
    write_kitti_tree(tmp_path / "raw", use_scans=True)
    write_annotated(tmp_path / "raw" / "train")
    return tmp_path / "raw"


@pytest.fixture
def video(raw, tmp_path):
    """A sequence of one's own camera, whose calibration states no size."""
    write_odometry_tree(raw, tmp_path / "video")
    return tmp_path / "video"


def resize(root, height, width):
    """Resizes all images; K of a sequence becomes that of a camera of this size."""
    for path in root.rglob("image_*/**/*.png"):
        if "proj_depth" not in path.parts:
            Image.open(path).resize((width, height)).save(path)
    for path in root.rglob("calib.txt"):
        rows = np.diag([width / WIDTH, height / HEIGHT, 1])
        lines = []
        for line in path.read_text().splitlines():
            name, _, numbers = line.partition(": ")
            if name.startswith("P"):
                P = rows @ np.array(numbers.split(), float).reshape(3, 4)
                P[1, 1] = P[0, 0]  # pixels of a camera are square
                line = f"{name}: {' '.join(map(str, P.ravel()))}"
            lines.append(line)
        path.write_text("\n".join(lines))


def pack(root, output, recipe=RECIPE, drive=DRIVE, *, skip_bad=False):
    lines = [SplitLine(drive, frame, "l") for frame in (1, 2)]
    return pack_lines(root, output, lines, recipe, skip_bad=skip_bad)


SMALL = r"0\.png has \d+x\d+ pixels in the camera's image, expected >= 16 in both directions"
SQUEEZED = r"0\.png has 160x48 pixels .* which 32x64 squeezes by 6.7 in one direction"


@pytest.mark.parametrize(
    ("size", "words"),
    [((1, 1), SMALL), ((1, WIDTH), SMALL), ((HEIGHT, 1), SMALL), ((WIDTH, HEIGHT), SQUEEZED)],
)
@pytest.mark.parametrize("kind", ["raw", "video"])
def test_images_of_a_size_that_no_camera_has_are_refused(raw, video, tmp_path, kind, size, words):
    root, drive = {"raw": (raw, DRIVE), "video": (video, SEQUENCE)}[kind]
    resize(root, *size)
    words = words.replace("0\\.png", r"image_0?2/.*\.png")
    with pytest.raises(KittiDataError, match=words):
        pack(root, tmp_path / "out", drive=drive)
    with pytest.raises(KittiDataError, match=f"nothing to pack; first reason: .*{words}"):
        pack(root, tmp_path / "out", drive=drive, skip_bad=True)


@pytest.mark.parametrize("recipe", [RECIPE, NATIVE], ids=["resized", "native"])
@pytest.mark.parametrize(
    "size",
    [
        (HEIGHT - 3, WIDTH - 4),  # a crop, as of 1242x375 to 1216x352
        (HEIGHT - 1, WIDTH - 2),  # another date's
        (HEIGHT + 1, WIDTH + 1),
        (HEIGHT, WIDTH // 2),
        (20, 20),
    ],
)
def test_images_whose_size_contradicts_the_calibration_are_refused(raw, tmp_path, size, recipe):
    resize(raw, *size)
    words = f"1 l are {size[0]}x{size[1]}, but S_rect_02 of the calibration is {HEIGHT}x{WIDTH}"
    with pytest.raises(KittiDataError, match=words):
        pack(raw, tmp_path / "out", recipe)


@pytest.mark.parametrize("size", [(HEIGHT // 2, WIDTH // 2), (22, 80), (20, 54), (96, 320)])
def test_frames_that_were_resized_before_are_packed_with_their_intrinsics(raw, tmp_path, size):
    resize(raw, *size)
    pack(raw, tmp_path / "out", NATIVE)
    assert found(tmp_path / "out") == []


@pytest.mark.parametrize("kind", ["velodyne", "annotated"])
def test_ground_truth_needs_images_of_the_calibrated_size(raw, tmp_path, kind):
    recipe = dataclasses.replace(RECIPE, ground_truth=kind)
    pack(raw, tmp_path / "whole", recipe)
    assert found(tmp_path / "whole") == []
    resize(raw, HEIGHT // 2, WIDTH // 2)
    with pytest.raises(KittiDataError, match="are 24x80, but S_rect_02"):
        pack(raw, tmp_path / "out", recipe)


@pytest.mark.parametrize("size", [(96, 128), (90, 160), (100, 100), (400, 300)])
def test_videos_of_usual_shapes_are_packed_at_the_default_shape(video, tmp_path, size):
    resize(video, *size)
    recipe = dataclasses.replace(RECIPE, height=64, width=128 if size == (400, 300) else 192)
    pack(video, tmp_path / "out", recipe, SEQUENCE)
    assert found(tmp_path / "out") == []


@pytest.mark.parametrize("shape", [(128, 64), (None, None)])
def test_upright_videos_are_packed_upright(video, tmp_path, shape):
    resize(video, 160, 90)
    with pytest.raises(KittiDataError, match="pack upright images with --height above --width"):
        pack(video, tmp_path / "lying", dataclasses.replace(RECIPE, width=96), SEQUENCE)
    recipe = dataclasses.replace(RECIPE, height=shape[0], width=shape[1])
    pack(video, tmp_path / "out", recipe, SEQUENCE)
    assert found(tmp_path / "out") == []


def test_a_calibration_that_verification_refuses_is_refused(video, tmp_path):
    path = video / "sequences" / SEQUENCE / "calib.txt"
    lines = {line[:2]: line for line in path.read_text().splitlines()}
    lines["P3"] = lines["P2"].replace("P2", "P3")
    path.write_text("\n".join(lines.values()))
    with pytest.raises(
        KittiDataError, match=f"{SEQUENCE} 1 l: .*calib.txt: P2 and P3: has a base.* 0 m"
    ):
        pack(video, tmp_path / "out", drive=SEQUENCE)
