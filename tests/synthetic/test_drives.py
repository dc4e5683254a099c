"""Files of synthetic drives: KITTI's layout and formats, the same bytes every time."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.running_job import ROOT
from PIL import Image

from md2dist.errors import KittiDataError, ShardError
from md2dist.synthetic.drive import CAMERA_X, IMU_TO_VELO, VELO_TO_CAM, Drive
from md2dist.synthetic.drives import DATE, DriveSettings, render_drives, split_lines

SMALL = {"height": 48, "width": 160, "num_drives": 2, "num_frames": 5, "seed": 3, "scan_every": 2}
CALIBRATIONS = ("calib_cam_to_cam.txt", "calib_velo_to_cam.txt", "calib_imu_to_velo.txt")


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("kitti")
    render_drives(root, DriveSettings(**SMALL))
    return root


def read_entries(path):
    lines = path.read_text().splitlines()
    return dict(line.split(": ", 1) for line in lines)


def read_numbers(path):
    entries = read_entries(path)
    return {key: np.array(entries[key].split(), float) for key in entries if key != "calib_time"}


def read_bytes(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def rotate_in_turn(roll, pitch, yaw):
    """Rz(yaw) Ry(pitch) Rx(roll), as the development kit reads navigation records."""
    result = np.eye(3)
    for axis, angle in ((2, yaw), (1, pitch), (0, roll)):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[j, i], turn[i, j] = np.sin(angle), -np.sin(angle)
        result = result @ turn
    return result


def test_the_tree_has_the_names_of_kitti_raw(tree):
    drive = tree / DATE / f"{DATE}_drive_0002_sync"
    names = {str(path.relative_to(drive)) for path in drive.rglob("*") if path.is_file()}
    frames = [f"{frame:010d}" for frame in range(5)]
    folders = ("image_02", "image_03", "oxts", "velodyne_points")
    assert names == {
        *(f"image_0{camera}/data/{frame}.png" for camera in (2, 3) for frame in frames),
        *(f"oxts/data/{frame}.txt" for frame in frames),
        *(f"velodyne_points/data/{frame}.bin" for frame in frames[::2]),
        *(f"{folder}/timestamps.txt" for folder in folders),
    }
    assert {path.name for path in tree.iterdir()} == {DATE}


def test_images_are_what_the_drive_renders(tree):
    drive = Drive(seed=3, number=2, height=48, width=160)
    for camera in (2, 3):
        path = tree / DATE / f"{DATE}_drive_0002_sync/image_0{camera}/data/0000000004.png"
        np.testing.assert_array_equal(np.asarray(Image.open(path)), drive.render(4, camera)[0])


def test_the_calibration_is_the_rig_that_rendered(tree):
    cameras = read_numbers(tree / DATE / "calib_cam_to_cam.txt")
    left, right = cameras["P_rect_02"].reshape(3, 4), cameras["P_rect_03"].reshape(3, 4)
    expected = [[0.58 * 160, 0, 80], [0, 1.92 * 48, 24], [0, 0, 1]]
    np.testing.assert_allclose(left[:, :3], expected, rtol=1e-12)
    np.testing.assert_allclose(right[:, :3], expected, rtol=1e-12)
    assert (left - right)[0, 3] / left[0, 0] == pytest.approx(0.54, abs=1e-9)
    assert -left[0, 3] / left[0, 0] == pytest.approx(CAMERA_X[2], abs=1e-9)
    assert list(cameras["S_rect_02"]) == [160, 48]
    for file, transform in zip(CALIBRATIONS[1:], (VELO_TO_CAM, IMU_TO_VELO), strict=True):
        numbers = read_numbers(tree / DATE / file)
        np.testing.assert_allclose(numbers["R"].reshape(3, 3), transform[:3, :3], atol=1e-12)
        np.testing.assert_allclose(numbers["T"], transform[:3, 3], atol=1e-12)


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_calibration_files_have_the_keys_and_lengths_of_the_real_ones(tree, kitti_raw, name):
    ours = read_entries(tree / DATE / name)
    real = read_entries(kitti_raw / "2011_09_26" / name)
    assert list(ours) == list(real)
    assert {k: len(v.split()) for k, v in ours.items()} == {
        k: len(v.split()) for k, v in real.items()
    }


def test_navigation_records_have_as_many_values_as_the_real_ones(tree, kitti_raw):
    path = "oxts/data/0000000003.txt"
    real = kitti_raw / "2011_09_26/2011_09_26_drive_0005_sync" / path
    ours = tree / DATE / f"{DATE}_drive_0001_sync" / path
    assert len(ours.read_text().split()) == len(real.read_text().split()) == 30


def test_navigation_records_hold_the_true_trajectory_and_speed(tree):
    """Latitude and longitude by KITTI's Mercator projection; speed and heading from the poses."""
    files = sorted((tree / DATE / f"{DATE}_drive_0001_sync/oxts/data").iterdir())
    records = np.array([file.read_text().split() for file in files], float)
    drive = Drive(seed=3, number=1, height=48, width=160)
    poses = np.stack([drive.imu_pose(frame) for frame in range(5)])

    scale, radius = np.cos(np.radians(records[0, 0])), 6378137.0
    east = scale * radius * np.radians(records[:, 1])
    north = scale * radius * np.log(np.tan(np.pi * (90 + records[:, 0]) / 360))
    positions = np.stack([east, north, records[:, 2]], 1)
    np.testing.assert_allclose(
        positions - positions[0], poses[:, :3, 3] - poses[0, :3, 3], atol=1e-3
    )

    north_and_east_speed = (records[1:, 6:8] + records[:-1, 6:8]) / 2
    np.testing.assert_allclose(
        np.diff(positions[:, 1::-1], axis=0), 0.1 * north_and_east_speed, atol=5e-3
    )
    yaw_rate = (records[1:, 19] + records[:-1, 19]) / 2
    np.testing.assert_allclose(np.diff(records[:, 5]), 0.1 * yaw_rate, atol=1e-3)

    forward_speed = records[:, 8]
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    np.testing.assert_allclose(steps, 0.1 * (forward_speed[1:] + forward_speed[:-1]) / 2, rtol=0.01)
    assert (steps > 0.5).all()
    assert (steps < 1.0).all()
    for (roll, pitch, yaw), pose in zip(records[:, 3:6], poses, strict=True):
        np.testing.assert_allclose(rotate_in_turn(roll, pitch, yaw), pose[:3, :3], atol=1e-9)


def test_scans_are_float32_quadruples_ahead_of_the_scanner(tree):
    file = tree / DATE / f"{DATE}_drive_0001_sync/velodyne_points/data/0000000002.bin"
    points = np.fromfile(file, np.float32).reshape(-1, 4)
    assert len(points) > 10000
    assert points[:, 0].min() > 0
    assert np.linalg.norm(points[:, :3], axis=1).max() < 130
    assert points[:, 2].min() > -1.9
    assert points[:, 3].min() >= 0
    assert points[:, 3].max() <= 1


@pytest.mark.slow
def test_the_number_of_processes_changes_no_byte(tree, tmp_path):
    render_drives(tmp_path, DriveSettings(**SMALL), processes=2)
    assert read_bytes(tmp_path) == read_bytes(tree)


class DeadlyDrive(Drive):
    """A drive that kills its process while rendering, as the OOM killer does."""

    def render(self, frame, camera=2):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_process_that_dies_is_an_error_not_a_hang(tmp_path, monkeypatch):
    monkeypatch.setattr("md2dist.synthetic.drives.Drive", DeadlyDrive)
    with pytest.raises(ShardError, match="a worker process died, possibly out of memory"):
        render_drives(tmp_path, DriveSettings(**SMALL), processes=2)


def test_another_seed_gives_another_world(tree):
    """Streets differ between seeds and between drives of one seed."""
    images = [
        Drive(seed, number, 48, 160).render(0)[0].astype(float)
        for seed, number in ((3, 1), (3, 2), (4, 1))
    ]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(images[i] - images[j]).mean() > 15


def test_frames_do_not_depend_on_how_many_are_rendered(tree, tmp_path):
    (drive,) = render_drives(tmp_path, DriveSettings(**{**SMALL, "num_drives": 1, "num_frames": 2}))
    name = "image_02/data/0000000001.png"
    longer = tree / DATE / drive.name / name
    assert (drive / name).read_bytes() == longer.read_bytes()


def test_drives_are_numbered_from_the_first_one_and_keep_their_streets(tree, tmp_path):
    settings = DriveSettings(**{**SMALL, "num_drives": 1, "num_frames": 1, "first_drive": 2})
    (drive,) = render_drives(tmp_path, settings)
    assert drive.name == f"{DATE}_drive_0002_sync"
    name = "image_02/data/0000000000.png"
    assert (drive / name).read_bytes() == (tree / DATE / drive.name / name).read_bytes()


def test_existing_drives_are_refused_and_replaced_when_asked(tmp_path):
    options = {**SMALL, "num_drives": 1, "num_frames": 1, "scan_every": 0, "image_format": "jpg"}
    (drive,) = render_drives(tmp_path, DriveSettings(**options))
    with pytest.raises(KittiDataError, match="--overwrite"):
        render_drives(tmp_path, DriveSettings(**options))
    render_drives(tmp_path, DriveSettings(**{**options, "num_frames": 2}), overwrite=True)
    assert len(list((drive / "image_03/data").glob("*.jpg"))) == 2
    assert not (drive / "velodyne_points").exists()


@pytest.mark.parametrize("name", ["notes.txt", f"{DATE}_drive_0001_sync_copy", "proj_depth"])
def test_other_files_among_the_drives_are_never_deleted(tmp_path, name):
    mine = tmp_path / DATE / name
    mine.mkdir(parents=True)
    with pytest.raises(KittiDataError, match=rf"{name} is not one of the files that are replaced"):
        render_drives(tmp_path, DriveSettings(**SMALL), overwrite=True)
    assert list(tmp_path.rglob("*")) == [tmp_path / DATE, mine]


@pytest.mark.parametrize("place", ["/proc/drives", "a_file", "a_file/drives"])
def test_an_output_that_cannot_be_written_is_reported(tmp_path, place):
    (tmp_path / "a_file").touch()
    with pytest.raises(KittiDataError, match=f"drives cannot be written to .*{place}"):
        render_drives(tmp_path / place, DriveSettings(**SMALL))


def test_an_unfinished_rendering_leaves_nothing_under_the_final_name(tmp_path, monkeypatch):
    monkeypatch.setattr("md2dist.synthetic.drives.format_oxts", lambda drive, frame: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        render_drives(tmp_path, DriveSettings(**SMALL))
    assert not (tmp_path / DATE).exists()
    monkeypatch.undo()
    assert len(render_drives(tmp_path, DriveSettings(**{**SMALL, "num_frames": 1}))) == 2


@pytest.mark.parametrize(
    "wrong", [{"num_frames": 0}, {"seed": -1}, {"image_format": "gif"}, {"azimuth_step": 0.0}]
)
def test_values_out_of_range_are_refused_by_name(tmp_path, wrong):
    (name,) = wrong
    with pytest.raises(KittiDataError, match=name.replace("_", "[_ ]")):
        render_drives(tmp_path, DriveSettings(**{**SMALL, **wrong}))


@pytest.mark.parametrize(
    ("offsets", "sides", "frames"),
    [((-1, 1), "lr", [1, 1, 2, 2, 3, 3]), ((), "l", [0, 1, 2, 3, 4]), ((-2,), "r", [2, 3, 4])],
)
def test_split_lines_name_the_frames_that_have_all_neighbours(offsets, sides, frames):
    lines = split_lines(Path("root/DATE/DRIVE"), 5, offsets, sides)
    assert [int(line.split()[1]) for line in lines] == frames
    assert lines[0] == f"DATE/DRIVE {frames[0]:010d} {sides[0]}"


@pytest.mark.slow
def test_the_command_renders_and_reports_an_existing_tree_in_one_line(tmp_path):
    command = [sys.executable, str(ROOT / "shard_tools/make_synthetic_kitti.py")]
    command += ["--output", str(tmp_path), "--drives", "1", "--frames", "1"]
    command += ["--width", "160", "--height", "48"]
    first = subprocess.run(command, capture_output=True, text=True, check=True)
    assert str(tmp_path) in first.stdout
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 2
    assert second.stderr.startswith("error: ")
    assert second.stderr.count("\n") == 1
