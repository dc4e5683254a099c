import shutil
import zipfile

import numpy as np
import pytest
from helpers.kitti_tree import (
    BASELINE,
    CX,
    CY,
    DATE,
    DRIVE,
    FX,
    HEIGHT,
    WIDTH,
    scan_path,
    write_kitti_tree,
)

from md2dist.data.kitti.calibration import load_calibration, read_calibration, read_scan
from md2dist.data.kitti.layout import find_image, find_scan
from md2dist.data.kitti.tree import SourceTree
from md2dist.errors import KittiDataError


@pytest.fixture
def tree(tmp_path):
    write_kitti_tree(tmp_path, use_scans=True)
    return tmp_path


def test_the_real_calibration_has_the_published_intrinsics_and_baseline(kitti_raw):
    calibration = load_calibration(kitti_raw / DATE)
    K = [[721.5377, 0, 609.5593], [0, 721.5377, 172.854], [0, 0, 1]]
    assert calibration.K[2].tolist() == calibration.K[3].tolist() == K
    assert calibration.baseline == pytest.approx((44.85728 + 339.5242) / 721.5377)
    assert calibration.sizes.tolist() == [[375, 1242]] * 4


def test_the_real_rotations_are_rotations(kitti_raw):
    calibration = load_calibration(kitti_raw / DATE)
    for R in (calibration.R_rect_00, calibration.velo_to_cam[:3, :3]):
        np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-6)
    assert calibration.velo_to_cam[:3, 3].tolist() == [-4.069766e-3, -7.631618e-2, -2.717806e-1]
    assert calibration.velo_to_cam[3].tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("date", "size"), [("2011_09_30", [370, 1226]), ("2011_10_03", [376, 1241])]
)
def test_other_dates_have_other_sizes(shared, date, size):
    calibration = load_calibration(shared / "kitti" / "calib_other_dates" / date)
    assert calibration.sizes[2].tolist() == size
    assert calibration.baseline == pytest.approx(0.5327, abs=0.01)


def test_a_written_calibration_is_read_back(tree):
    calibration = load_calibration(str(tree / DATE))
    assert calibration.K[3].tolist() == [[FX, 0, CX], [0, FX, CY], [0, 0, 1]]
    assert calibration.baseline == BASELINE
    assert calibration.sizes[2].tolist() == [HEIGHT, WIDTH]


@pytest.mark.parametrize("name", ["calib_cam_to_cam.txt", "calib_velo_to_cam.txt"])
def test_a_missing_calibration_file_is_named(tree, name):
    (tree / DATE / name).unlink()
    with pytest.raises(KittiDataError, match=rf"no file {name}; .* \(in {tree / DATE}\)"):
        load_calibration(tree / DATE)


@pytest.mark.parametrize(
    ("file", "old", "new", "named"),
    [
        ("calib_cam_to_cam.txt", "P_rect_02:", "P_rect_xx:", "P_rect_02 of 12 numbers"),
        ("calib_cam_to_cam.txt", "S_rect_03:", "S_rect_03: 1", "S_rect_03 of 2 numbers"),
        ("calib_cam_to_cam.txt", "R_rect_00: 1", "R_rect_00: x1", "R_rect_00 of 9 numbers"),
        ("calib_velo_to_cam.txt", "T:", "T_:", "T of 3 numbers"),
        ("calib_cam_to_cam.txt", "P_rect_02:", "P_rect_02: 1", "P_rect_02 of 12 .*; it has 13"),
        (
            "calib_cam_to_cam.txt",
            "R_rect_00: 1.",
            "R_rect_00: 1,",
            "'1,000000e.* is not a number such as 0.5",
        ),
    ],
)
def test_a_broken_calibration_entry_is_named(tree, file, old, new, named):
    path = tree / DATE / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(KittiDataError, match=f"{file}.*{named}"):
        load_calibration(tree / DATE)


def test_images_are_found_as_png_and_as_jpeg_of_the_right_camera(tree):
    left = f"{DRIVE}/image_02/data/0000000001"
    assert find_image(SourceTree(tree), DRIVE, 1, "l") == f"{left}.png"
    (tree / f"{left}.png").rename(tree / f"{left}.jpg")
    assert find_image(SourceTree(tree), DRIVE, 1, "l") == f"{left}.jpg"
    right = f"{DRIVE}/image_03/data/0000000001.png"
    assert find_image(SourceTree(tree), DRIVE, 1, "r") == right


def test_a_missing_image_and_a_missing_drive_are_distinguished(tree):
    with pytest.raises(KittiDataError, match=r"no image .*image_02/data/0000000099\.png\|jpg"):
        find_image(SourceTree(tree), DRIVE, 99, "l")
    with pytest.raises(KittiDataError, match=r"no folder .*drive_0006_sync"):
        find_image(SourceTree(tree), DRIVE.replace("0005", "0006"), 1, "l")


def test_a_scan_is_points_of_four_numbers(tree):
    points = read_scan(SourceTree(tree), find_scan(SourceTree(tree), DRIVE, 2))
    assert points.shape == (500, 4)
    assert points.dtype == np.float32
    assert (points[:, 0] >= 2).all()


@pytest.mark.parametrize("content", [b"", b"12345", None])
def test_a_broken_scan_is_named(tree, content):
    scan_path(tree, 2).unlink()
    if content is not None:
        scan_path(tree, 2).write_bytes(content)
    with pytest.raises(KittiDataError, match=r"laser scan .*0000000002\.bin"):
        read_scan(SourceTree(tree), find_scan(SourceTree(tree), DRIVE, 2))


def test_a_calibration_in_two_folders_must_be_the_same(tree, tmp_path):
    path = tree / DATE / "calib_cam_to_cam.txt"
    for name in ("a", "b"):
        shutil.copytree(tree / DATE, tmp_path / "root" / name / DATE)
    found = SourceTree(tmp_path / "root")
    assert read_calibration(found, DRIVE).baseline == BASELINE
    text = path.read_text().replace(f"{FX:.6e}", f"{FX + 1:.6e}")
    (tmp_path / "root" / "b" / DATE / path.name).write_text(text)
    words = (
        rf"P_rect_00 extracted in a/{DATE}/{path.name} differs from that extracted in b/.*; keep"
    )
    with pytest.raises(KittiDataError, match=words):
        read_calibration(found, DRIVE)


def test_the_entries_of_a_calibration_may_be_in_several_archives(tmp_path):
    for name, text in (("a", "P0: 1 0 0 0 0 1 0 0 0 0 1 0"), ("b", "Tr: 1 0 0 0 0 1 0 0 0 0 1 0")):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            lines = [text, *(f"P{camera}: 2 0 0 0 0 2 0 0 0 0 1 0" for camera in (1, 2, 3))]
            archive.writestr("dataset/sequences/09/calib.txt", "\n".join(lines))
    calibration = read_calibration(SourceTree(tmp_path), "09")
    assert calibration.P_rect[:, 0, 0].tolist() == [1, 2, 2, 2]
    assert calibration.velo_to_cam.tolist() == np.eye(4).tolist()


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda text: text.replace(":", " :"),
        lambda text: text.replace(" ", "\t").replace(":", "\t: "),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace(" ", "   ").replace("\n", "  \n \n"),
        lambda text: f"\N{BYTE ORDER MARK}{text}",
    ],
)
def test_a_calibration_that_an_editor_has_written_means_the_same(tree, rewrite):
    expected = load_calibration(tree / DATE)
    for path in (tree / DATE).glob("*.txt"):
        text = path.read_text().partition("\n")[2]  # without the time, so that an entry is first
        path.write_bytes(rewrite(text).encode())
    for array, same in zip(expected, load_calibration(tree / DATE), strict=True):
        np.testing.assert_array_equal(array, same)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\xff\xd8\xff", "is not text in UTF-8"), (b"P0: 1\0", "has a zero byte in line 1")],
)
def test_a_calibration_that_is_no_text_is_named(tree, content, words):
    (tree / DATE / "calib_velo_to_cam.txt").write_bytes(content)
    with pytest.raises(KittiDataError, match=rf"calibration file calib_velo_to_cam\.txt {words}"):
        load_calibration(tree / DATE)


def test_a_scan_that_kitti_lacks_is_not_to_be_downloaded(tree):
    drive = DRIVE.replace("0005", "0009")
    (tree / DRIVE).rename(tree / drive)
    with pytest.raises(
        KittiDataError, match=rf"177\.bin; KITTI itself .* 177 to 180 of {drive}: le"
    ):
        find_scan(SourceTree(tree), drive, 177)
    with pytest.raises(
        KittiDataError, match=r"181\.bin; other scans are there: KITTI itself lacks"
    ):
        find_scan(SourceTree(tree), drive, 181)
    shutil.rmtree(tree / drive / "velodyne_points")
    with pytest.raises(KittiDataError, match=rf"181\.bin; download the drive {drive}, or pack"):
        find_scan(SourceTree(tree), drive, 181)
