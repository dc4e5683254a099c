import os
import zipfile

import numpy as np
import pytest

from md2dist.data.kitti.poses import format_poses, read_poses
from md2dist.errors import KittiAccessError, KittiDataError

IDENTITY = "1 0 0 0 0 1 0 0 0 0 1 0"


def write(folder, lines, name="09.txt"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def write_zip(path, **files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/") + ".txt", text)
    return path


def poses_at(*depths):
    poses = np.tile(np.eye(3, 4), (len(depths), 1, 1))
    poses[:, 2, 3] = depths
    return poses


def lines_at(*depths):
    return format_poses(poses_at(*depths)).splitlines()


@pytest.mark.parametrize("place", ["poses", "dataset/poses", "."])
def test_a_folder_holds_the_poses_of_each_sequence_where_kitti_has_them(tmp_path, place):
    write(tmp_path / place, lines_at(0, 1, 2), "09.txt")
    write(tmp_path / place, lines_at(0, 5), "10.txt")
    np.testing.assert_array_equal(read_poses(tmp_path, "09"), poses_at(0, 1, 2))
    np.testing.assert_array_equal(read_poses(tmp_path, "10"), poses_at(0, 5))


@pytest.mark.parametrize("place", ["poses__", "dataset__poses__", ""])
def test_the_archive_is_read_as_it_is(tmp_path, place):
    archive = write_zip(
        tmp_path / "data_odometry_poses.zip",
        **{f"{place}09": format_poses(poses_at(0, 1)), f"{place}10": "not this one"},
    )
    np.testing.assert_array_equal(read_poses(archive, "09"), poses_at(0, 1))


def test_a_file_serves_any_sequence_and_drive(tmp_path):
    file = write(tmp_path, lines_at(0, 1), "mine.dat")
    for drive in ("09", "2011_09_26_drive_0005_sync"):
        np.testing.assert_array_equal(read_poses(file, drive), poses_at(0, 1))


def test_poses_are_written_as_they_are_read(tmp_path, shared):
    poses = read_poses(shared / "kitti" / "odometry" / "poses" / "10.txt", "10")
    assert poses.shape == (1201, 3, 4)
    written = write(tmp_path, format_poses(poses).splitlines())
    np.testing.assert_array_equal(read_poses(written, "10"), poses)
    homogeneous = np.concatenate([poses, np.tile([[0, 0, 0, 1.0]], (1201, 1, 1))], axis=1)
    assert format_poses(homogeneous) == written.read_text()
    first = written.read_text().splitlines()[0].split(" ")
    assert len(first) == 12
    assert first[0] == "1.000000000e+00"


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n  \n"])
def test_the_end_of_the_file_does_not_matter(tmp_path, end):
    path = tmp_path / "09.txt"
    path.write_bytes(("\ufeff" + "\r\n".join(lines_at(0, 1)) + end).encode())
    np.testing.assert_array_equal(read_poses(path, "09"), poses_at(0, 1))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "''; expected 12 numbers"),
        ("1 2 3", "'1 2 3'; expected 12 numbers"),
        (f"{IDENTITY} 0 0 0 1", "expected 12 numbers"),
        (f"0.1 {IDENTITY}", "expected 12 numbers"),
        (IDENTITY.replace("1", "one"), "expected 12 numbers"),
        (IDENTITY.replace(" ", ","), "expected 12 numbers"),
        ("12 " * 100_000, "12 12 12 ...'; expected 12 numbers"),
        (IDENTITY + " " * 2000, "expected 12 numbers"),
        ("1 0 0 nan 0 1 0 0 0 0 1 0", "not finite"),
        ("1 0 0 0 0 1 0 0 0 0 1 inf", "not finite"),
        ("1 0 0 0 0 1 0 0 0 0 1 1e999", "not finite"),
        ("0 0 0 0 0 0 0 0 0 0 0 0", "no rotation"),
        ("2 0 0 0 0 2 0 0 0 0 2 0", "no rotation"),
        ("-1 0 0 0 0 1 0 0 0 0 1 0", "no rotation"),
        ("1e300 0 0 0 0 1e300 0 0 0 0 1e300 0", "no rotation"),
        ("1 0 0 0 1 0 0 0 0 1 0 0", "no rotation"),
    ],
)
def test_a_line_that_is_no_pose_is_named(tmp_path, line, reason):
    path = write(tmp_path, [IDENTITY, line, IDENTITY])
    with pytest.raises(KittiDataError) as raised:
        read_poses(path, "09")
    assert f"{path}, line 2" in str(raised.value)
    assert reason in str(raised.value)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\x89PNG\r\n\x1a\n\xff", b"1 0\0 0"])
def test_what_is_no_text_of_poses_is_refused(tmp_path, content):
    path = tmp_path / "09.txt"
    path.write_bytes(content)
    with pytest.raises(KittiDataError, match=r"09\.txt"):
        read_poses(path, "09")


def test_what_is_missing_is_named_with_what_is_expected(tmp_path):
    write(tmp_path / "poses", lines_at(0, 1), "10.txt")
    archive = write_zip(tmp_path / "data_odometry_poses.zip", poses__10=IDENTITY)
    for source in (tmp_path, tmp_path / "poses", archive):
        with pytest.raises(KittiDataError, match=r"has no poses 09.txt, nor poses/09.txt"):
            read_poses(source, "09")
    for source in (tmp_path / "nowhere", tmp_path / "nowhere.zip"):
        with pytest.raises(KittiDataError, match=r"No such file.*or data_odometry_poses.zip"):
            read_poses(source, "09")


def test_a_name_of_a_sequence_never_leaves_the_folder(tmp_path):
    write(tmp_path, lines_at(0, 1), "secret.txt")
    (tmp_path / "poses").mkdir()
    for name in ("../secret", "\0", ""):
        with pytest.raises(KittiDataError, match="has no poses"):
            read_poses(tmp_path / "poses", name)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"x" * 100])
def test_a_damaged_archive_is_refused(tmp_path, content):
    path = tmp_path / "data_odometry_poses.zip"
    path.write_bytes(content)
    with pytest.raises(KittiDataError, match=r"poses\.zip is damaged"):
        read_poses(path, "09")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "09.txt")
    for source in (tmp_path, tmp_path / "09.txt"):
        with pytest.raises((KittiDataError, KittiAccessError)):
            read_poses(source, "09")


def test_a_file_larger_than_any_of_poses_is_not_read(tmp_path):
    path = tmp_path / "09.txt"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(KittiDataError, match="larger than"):
        read_poses(path, "09")
