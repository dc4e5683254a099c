import errno
import os
import re
import shutil
from pathlib import Path

import pytest
from helpers.kitti_tree import image_path

from md2dist.data.kitti.calibration import read_speed
from md2dist.data.kitti.drives import DRIVES, EIGEN_TEST_DRIVES
from md2dist.data.kitti.named_splits import load_split
from md2dist.data.kitti.split_rules import MIN_SPEED, is_held_out, select_samples
from md2dist.data.kitti.splits import read_split
from md2dist.data.kitti.tree import SourceTree
from md2dist.errors import KittiAccessError, KittiDataError, SplitError

TRAIN, VAL, TEST = "2011_09_26_drive_0001", "2011_09_26_drive_0015", "2011_09_26_drive_0002"


def write_drive(root, name, speeds, *, frames=None, cameras=(2, 3)):
    """Empty images, and records of a car of these speeds, in m/s, that heads north by west."""
    folder = root / name[:10] / f"{name}_sync"
    for camera in cameras:
        (folder / f"image_0{camera}" / "data").mkdir(parents=True)
    (folder / "oxts" / "data").mkdir(parents=True)
    for frame, speed in enumerate(speeds) if frames is None else zip(frames, speeds, strict=True):
        for camera in cameras:
            (folder / f"image_0{camera}" / "data" / f"{frame:010d}.png").touch()
        values = [49.0, 8.4, 112.0, 0.1, 0.2, 0.3, 0.8 * speed, -0.6 * speed, *[99.0] * 22]
        (folder / "oxts" / "data" / f"{frame:010d}.txt").write_text(" ".join(map(str, values)))
    return folder


def select(root, part, frame_offsets, use_stereo):
    return select_samples(SourceTree(root), part, frame_offsets, use_stereo)


def frames_of(split, side="l"):
    return [line.frame for line in split.lines if line.side == side]


def test_the_test_drives_are_those_of_the_published_list(shared):
    listed = read_split(shared / "splits" / "eigen" / "test_files.txt")
    assert {line.drive.partition("/")[2] for line in listed} == EIGEN_TEST_DRIVES
    assert len(EIGEN_TEST_DRIVES) == 28
    assert set(DRIVES) > EIGEN_TEST_DRIVES


def test_a_tenth_of_the_published_training_frames_is_held_out(shared):
    lines = read_split(shared / "splits" / "eigen_full" / "train_files.txt")
    held_out = [line.drive for line in lines if is_held_out(line.drive)]
    assert 0.08 < len(held_out) / len(lines) < 0.1
    assert len(set(held_out)) == 6
    assert len({drive[:10] for drive in held_out}) == 3


def test_no_drive_is_in_two_parts_whichever_drives_are_present(tmp_path):
    for drive in DRIVES:
        write_drive(tmp_path, drive.removesuffix("_sync"), [5.0] * 3)
    parts = {part: select(tmp_path, part, [], False) for part in ("train", "val")}
    drives = {part: {line.drive[11:] for line in parts[part].lines} for part in parts}
    assert not drives["train"] & drives["val"]
    assert drives["train"] | drives["val"] == set(DRIVES) - EIGEN_TEST_DRIVES
    assert [parts["train"].num_drives, parts["val"].num_drives] == [27, 6]
    for drive in drives["train"]:
        if drive[:10] != "2011_09_26":
            shutil.rmtree(tmp_path / drive[:10] / drive)
    again = {line.drive[11:] for line in select(tmp_path, "val", [], False).lines}
    assert again == drives["val"]


def test_frames_in_which_the_car_stands_are_dropped_and_counted(tmp_path):
    write_drive(tmp_path, TRAIN, [0.0, 0.99, 1.01, 5.0, 0.2])
    split = select(tmp_path, "train", [], True)
    assert frames_of(split, "l") == frames_of(split, "r") == [2, 3]
    assert split.num_static == 6
    assert f"6 frames slower than {MIN_SPEED:g} m/s" in str(split)


def test_a_speed_is_the_length_of_the_horizontal_velocity(tmp_path):
    folder = write_drive(tmp_path, TRAIN, [2.5])
    assert read_speed(SourceTree(tmp_path), f"{TRAIN[:10]}/{folder.name}", 0) == pytest.approx(2.5)


def test_the_real_drive_has_the_speed_of_its_forward_sensor(kitti_raw):
    drive = "2011_09_26/2011_09_26_drive_0005_sync"
    for frame in (0, 80, 153):
        record = kitti_raw / drive / "oxts" / "data" / f"{frame:010d}.txt"
        forward = float(record.read_text().split()[8])
        assert read_speed(SourceTree(kitti_raw), drive, frame) == pytest.approx(forward, abs=0.1)


@pytest.mark.parametrize(
    ("offsets", "expected"),
    [([], [0, 1, 2, 5, 6, 7]), ([-1, 1], [1, 6]), ([-2], [2, 7]), ([1], [0, 1, 5, 6])],
)
def test_a_sample_needs_its_neighbours(tmp_path, offsets, expected):
    write_drive(tmp_path, TRAIN, [5.0] * 6, frames=[0, 1, 2, 5, 6, 7])
    split = select(tmp_path, "train", offsets, True)
    assert frames_of(split, "l") == frames_of(split, "r") == expected
    assert split.num_incomplete == 12 - 2 * len(expected)


def test_a_sample_needs_the_other_camera_for_stereo_alone(tmp_path):
    folder = write_drive(tmp_path, TRAIN, [5.0] * 3)
    (folder / "image_03" / "data" / "0000000001.png").rename(
        folder / "image_03" / "data" / "0000000009.txt"
    )
    assert frames_of(select(tmp_path, "train", [], True), "l") == [0, 2]
    assert frames_of(select(tmp_path, "train", [], False), "l") == [0, 1, 2]
    assert frames_of(select(tmp_path, "train", [], False), "r") == [0, 2]


def test_lines_are_sorted_by_drive_frame_and_side(tmp_path):
    write_drive(tmp_path, "2011_09_26_drive_0005", [5.0] * 12)
    write_drive(tmp_path, TRAIN, [5.0] * 2)
    lines = select(tmp_path, "train", [], True).lines
    assert lines == sorted(lines)
    assert len(lines) == 28


def test_a_neighbour_may_stand_still(tmp_path):
    write_drive(tmp_path, TRAIN, [0.0, 5.0, 0.0])
    assert frames_of(select(tmp_path, "train", [-1, 1], True)) == [1]


@pytest.mark.parametrize(
    ("name", "speed", "words"),
    [
        (TEST, 5.0, "of 0 drives"),
        (VAL, 5.0, "of 0 drives.*including some for training"),
        (TRAIN, 0.0, "of 1 drives.*8 frames slower"),
    ],
)
def test_a_tree_without_training_frames_is_refused_with_the_reasons(tmp_path, name, speed, words):
    write_drive(tmp_path, name, [speed] * 4)
    with pytest.raises(SplitError, match=f"rule/train selects no samples from .*{words}"):
        select(tmp_path, "train", [], True)


@pytest.mark.parametrize("content", [None, "", "1 2 3", "1 2 3 4 5 6 seven 8", b"\xff\xfe"])
def test_a_broken_navigation_record_is_named(tmp_path, content):
    path = write_drive(tmp_path, TRAIN, [5.0] * 3) / "oxts" / "data" / "0000000001.txt"
    path.unlink()
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(KittiDataError, match=rf"oxts/data/0000000001\.txt.* \(in {tmp_path}\)"):
        load_split("rule/train", SourceTree(tmp_path), frame_offsets=[], use_stereo=True)


def test_a_drive_without_speeds_is_refused_or_reported_as_skipped(tmp_path):
    without = "2011_09_26/2011_09_26_drive_0005_sync"
    shutil.rmtree(write_drive(tmp_path, without[11:-5], [5.0] * 3) / "oxts")
    write_drive(tmp_path, TRAIN, [5.0] * 3)
    tree = SourceTree(tmp_path)
    reason = rf"its speed is unknown: no file {without}/oxts/data/0000000000\.txt; download"
    with pytest.raises(KittiDataError, match=f"{without}: {reason}.*--skip-bad"):
        load_split("rule/train", tree)
    split = load_split("rule/train", tree, skip_bad=True)
    assert "6 samples of 1 drives" in split.origin
    assert split.origin.endswith("1 drives without speeds")
    ((drive, *_, logged),) = split.skipped
    assert drive == str(split.skipped[0]) == without
    assert re.match(reason, logged)
    assert {line.drive for line in split.lines} == {f"2011_09_26/{TRAIN}_sync"}


@pytest.mark.parametrize("speed", [float("nan"), float("inf"), -float("inf")])
def test_a_speed_that_is_no_finite_number_is_refused_or_its_drive_skipped(tmp_path, speed):
    write_drive(tmp_path, "2011_09_26_drive_0005", [5.0, speed, 5.0])
    write_drive(tmp_path, TRAIN, [5.0] * 3)
    tree = SourceTree(tmp_path)
    words = "navigation record .*/0000000001.txt has the velocities .* expected finite"
    with pytest.raises(KittiDataError, match=rf"0005_sync: its speed is unknown: {words}"):
        load_split("rule/train", tree)
    split = load_split("rule/train", tree, skip_bad=True)
    assert {line.drive for line in split.lines} == {f"2011_09_26/{TRAIN}_sync"}
    assert len(split.skipped) == 1


def test_a_record_without_access_is_an_error_even_when_bad_drives_are_skipped(tmp_path):
    record = write_drive(tmp_path, TRAIN, [5.0] * 3) / "oxts" / "data" / "0000000001.txt"
    record.unlink()
    record.symlink_to(record)
    with pytest.raises(KittiAccessError, match=rf"^{record} cannot be read \(Too many levels"):
        load_split("rule/train", SourceTree(tmp_path), skip_bad=True)


def test_folders_beside_the_dates_are_not_read(tmp_path, monkeypatch):
    write_drive(tmp_path, TRAIN, [5.0] * 3)
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "around").symlink_to("around")
    scan = os.scandir

    def scan_as_a_user(path):
        if Path(path).name == "lost+found":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scan_as_a_user)
    assert len(load_split("rule/train", SourceTree(tmp_path)).lines) == 6


def test_a_date_that_cannot_be_read_is_reported(tmp_path):
    write_drive(tmp_path, TRAIN, [5.0] * 3)
    (tmp_path / "2011_09_30").symlink_to("2011_09_30")
    with pytest.raises(KittiAccessError, match=r"2011_09_30 cannot be read \(Too many levels"):
        load_split("rule/train", SourceTree(tmp_path), skip_bad=True)


def test_a_rule_has_a_name_like_a_list(kitti_raw, tmp_path):
    drive = "2011_09_26/2011_09_26_drive_0005_sync"
    (tmp_path / drive).parent.mkdir(parents=True)
    (tmp_path / drive).symlink_to(kitti_raw / drive)
    split = load_split("rule/train", SourceTree(tmp_path), frame_offsets=(-1, 1), use_stereo=True)
    assert len(split.lines) == 2 * 152
    assert split.origin.startswith("rule/train: 304 samples of 1 drives")
    for line in split.lines:
        for offset in (-1, 0, 1):
            image_path(tmp_path, line.drive, line.frame + offset, line.side)
    with pytest.raises(SplitError, match="held out"):
        load_split("rule/val", SourceTree(tmp_path))
