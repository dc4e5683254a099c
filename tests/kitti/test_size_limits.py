"""Files and archives that are larger than KITTI's are refused before they are read."""

import os
import struct
import tracemalloc
import zipfile

import pytest
from helpers.kitti_tree import DATE, DRIVE, write_archives, write_drive_with_scans

from md2dist.data.kitti import size_limits, zip_files
from md2dist.data.kitti.calibration import read_calibration
from md2dist.data.kitti.layout import list_drives
from md2dist.data.kitti.source import KittiSource
from md2dist.data.kitti.splits import SplitLine
from md2dist.data.kitti.tree import SourceTree
from md2dist.data.packing.plan import plan_samples
from md2dist.data.packing.writer import pack_shards
from md2dist.data.shards.recipe import Recipe
from md2dist.errors import KittiDataError

IMAGE = f"{DRIVE}/image_02/data/0000000001.png"
SCAN = f"{DRIVE}/velodyne_points/data/0000000001.bin"
CALIBRATION = f"{DATE}/calib_cam_to_cam.txt"
RECIPE = Recipe("small", 32, 64, (), use_stereo=False, ground_truth="velodyne")
MEGABYTE = 1 << 20


@pytest.fixture
def kitti(tmp_path):
    return write_drive_with_scans(tmp_path / "kitti")


@pytest.fixture
def archive(kitti, tmp_path):
    """One archive with all files."""
    path = tmp_path / "zips" / "all.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as stream:
        for file in sorted(kitti.rglob("*")):
            stream.write(file, file.relative_to(kitti))
    return path


def make_large(path, num_bytes):
    with path.open("wb") as stream:
        stream.truncate(num_bytes)


def write_member(path, name, num_bytes, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as stream, stream.open(name, "w") as member:
        for _ in range(num_bytes // MEGABYTE):
            member.write(bytes(MEGABYTE))


def peak_of(act):
    """Returns the largest memory that an action takes, in bytes."""
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "num_bytes"), [(IMAGE, 65 * MEGABYTE), (SCAN, 3 << 30), (CALIBRATION, 2 * MEGABYTE)]
)
def test_a_file_that_is_too_large_is_refused_before_it_is_read(kitti, tmp_path, name, num_bytes):
    make_large(kitti / name, num_bytes)

    def pack():
        plan = plan_samples(KittiSource(SourceTree(kitti)), [SplitLine(DRIVE, 1, "l")], RECIPE)
        pack_shards(plan, tmp_path / "out")

    with pytest.raises(KittiDataError, match=f"{name} has {num_bytes} bytes, expected at most"):
        pack()


@pytest.mark.parametrize(("name", "megabytes"), [(IMAGE, 100), (SCAN, 100), (CALIBRATION, 2)])
def test_a_member_that_unpacks_to_too_much_is_refused(tmp_path, name, megabytes):
    write_member(tmp_path / "all.zip", name, megabytes * MEGABYTE)
    tree = SourceTree(tmp_path)

    def attempt():
        with pytest.raises(KittiDataError, match=rf"{name} has {megabytes * MEGABYTE} bytes, exp"):
            tree.read(name)

    assert peak_of(attempt) < 10 * MEGABYTE


def test_a_member_that_unpacks_to_more_than_it_says_is_damaged(tmp_path):
    write_member(tmp_path / "all.zip", SCAN, 100 * MEGABYTE)
    content = bytearray((tmp_path / "all.zip").read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 1000)  # the size in the directory
    (tmp_path / "all.zip").write_bytes(content)

    def attempt():
        with pytest.raises(KittiDataError, match=f"{SCAN} in all.zip is damaged"):
            SourceTree(tmp_path).read(SCAN)

    assert peak_of(attempt) < 10 * MEGABYTE


def test_an_encrypted_member_is_named(archive):
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as stream:
        local = stream.getinfo(IMAGE).header_offset
    entry = content.index(IMAGE.encode(), local + 100) - 46
    for flags in (local + 6, entry + 8):
        content[flags] |= 1
    archive.write_bytes(content)
    tree = SourceTree(archive.parent)
    with pytest.raises(KittiDataError, match=f"{IMAGE} in all.zip is encrypted; extract"):
        tree.read(IMAGE)
    assert tree.read(SCAN)


def test_a_method_of_compression_that_knows_no_bounds_is_named(tmp_path):
    write_member(tmp_path / "all.zip", SCAN, MEGABYTE, zipfile.ZIP_BZIP2)
    with pytest.raises(KittiDataError, match=r"in all\.zip is compressed by bzip2; expected defl"):
        SourceTree(tmp_path).read(SCAN)


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [
        ("MAX_DIRECTORY", 100, "directory of more than 100 bytes; extract it"),
        ("MAX_MEMBERS", 4, "directory of more than 4 files; extract it"),
        ("MAX_FOLDERS", 2, "directory of more than 2 folders; extract it"),
    ],
)
def test_an_archive_with_too_large_a_directory_is_refused(
    archive, monkeypatch, limit, value, words
):
    monkeypatch.setattr(zip_files, limit, value)
    with pytest.raises(KittiDataError, match=f"all.zip has a {words}"):
        list_drives(SourceTree(archive.parent))


def test_a_directory_that_only_claims_to_be_large_is_refused(archive):
    content = bytearray(archive.read_bytes())
    make_large(archive, 1 << 30)
    end = bytearray(content[content.rindex(b"PK\x05\x06") :])
    end[12:16] = struct.pack("<I", 900 << 20)
    with archive.open("r+b") as stream:
        stream.seek(0, os.SEEK_END)
        stream.write(end)

    def attempt():
        with pytest.raises(KittiDataError, match=f"more than {size_limits.MAX_DIRECTORY} bytes"):
            list_drives(SourceTree(archive.parent))

    assert peak_of(attempt) < 10 * MEGABYTE


def test_a_name_of_endless_folders_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as stream:
        stream.writestr("a/" * 30_000 + "b", b"")

    def attempt():
        with pytest.raises(
            KittiDataError, match=r"file name 'a/a.* is not valid; .*20 folders deep"
        ):
            list_drives(SourceTree(tmp_path))

    assert peak_of(attempt) < 10 * MEGABYTE


def test_the_archives_as_published_are_far_below_the_limits(kitti, tmp_path):
    write_archives(kitti, tmp_path / "zips")
    assert list_drives(SourceTree(tmp_path / "zips")) == [DRIVE]


def test_pipes_and_devices_are_no_files(kitti):
    for name, replace in (
        (CALIBRATION, os.mkfifo),
        (IMAGE, lambda path: path.symlink_to("/dev/zero")),
    ):
        (kitti / name).unlink()
        replace(kitti / name)
        assert SourceTree(kitti).size(name) is None
    with pytest.raises(KittiDataError, match=f"no file {CALIBRATION}"):
        read_calibration(SourceTree(kitti), DRIVE)
    with pytest.raises(KittiDataError, match="no image"):
        plan_samples(KittiSource(SourceTree(kitti)), [SplitLine(DRIVE, 1, "l")], RECIPE)
