import errno
import multiprocessing
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
from helpers.kitti_tree import (
    DATE,
    DRIVE,
    files_of,
    write_archives,
    write_drive_with_scans,
)

from md2dist.data.kitti.layout import list_drives, list_frames
from md2dist.data.kitti.tree import SourceTree, open_tree
from md2dist.errors import KittiAccessError, KittiDataError

IMAGES = f"{DRIVE}/image_02/data"
CALIBRATION = f"{DATE}/calib_cam_to_cam.txt"
ARCHIVE = f"{DRIVE.partition('/')[2]}.zip"
needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's /proc")


@pytest.fixture
def extracted(tmp_path):
    return write_drive_with_scans(tmp_path / "extracted")


@pytest.fixture
def archives(extracted, tmp_path):
    write_archives(extracted, tmp_path / "archives")
    return tmp_path / "archives"


def fail(*arguments, **options):
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def everything(tree, folder=""):
    """Returns all files of a tree, by name."""
    start = f"{folder}/" if folder else ""
    found = {
        start + name: tree.read(start + name)
        for name in tree.files(folder)
        if not name.endswith(".zip")
    }
    assert all(tree.size(name) == len(content) for name, content in found.items())
    for inner in tree.folders(folder):
        found |= everything(tree, start + inner)
    return found


def test_archives_hold_what_they_would_hold_unpacked(extracted, archives):
    files = files_of(extracted)
    assert len(files) == 2 + 3 * 3
    assert everything(SourceTree(extracted)) == everything(SourceTree(archives)) == files


def test_folders_and_archives_may_be_mixed(extracted, archives):
    expected = everything(SourceTree(extracted))
    (archives / f"{DATE}_calib.zip").unlink()
    (archives / DATE).mkdir()
    for path in (extracted / DATE).glob("*.txt"):
        path.rename(archives / DATE / path.name)
    assert everything(SourceTree(archives)) == expected


def test_missing_files_are_absent_in_folders_and_archives(extracted, archives):
    for tree in (SourceTree(extracted), SourceTree(archives), SourceTree(extracted / "nowhere")):
        assert tree.files("2011_09_28") == set()
        assert tree.folders("2011_09_28/drive") == []
        assert tree.size(f"{IMAGES}/0000000099.png") is None
        with pytest.raises(KittiDataError, match=r"no file .*0000000099\.png"):
            tree.read(f"{IMAGES}/0000000099.png")


def test_an_unreadable_file_is_named(extracted):
    tree = SourceTree(extracted)
    with pytest.raises(KittiAccessError, match=f"{extracted}/{IMAGES} cannot be read.*directory"):
        tree.read(IMAGES)


def test_one_drive_in_two_places_is_refused(extracted, archives):
    shutil.copy(archives / ARCHIVE, archives / "copy.zip")
    words = f"duplicate drive: {IMAGES} is present in {ARCHIVE} and in copy.zip"
    with pytest.raises(KittiDataError, match=words):
        SourceTree(archives).files(IMAGES)
    (archives / "copy.zip").unlink()
    words = rf"is present extracted \(folder 1\) and in {ARCHIVE} \(folder 2\); keep one"
    with pytest.raises(KittiDataError, match=words):
        SourceTree(extracted, archives).files(IMAGES)
    shutil.copytree(extracted / DRIVE, archives / DRIVE)
    words = f"duplicate drive: {IMAGES} is present extracted and in {ARCHIVE}; keep one"
    with pytest.raises(KittiDataError, match=words):
        SourceTree(archives).files(IMAGES)


@pytest.mark.parametrize("num_bytes", [0, 100, -1])
def test_a_truncated_archive_is_named_wherever_its_files_may_be_missed(archives, num_bytes):
    path = archives / ARCHIVE
    path.write_bytes(path.read_bytes()[:num_bytes])
    words = f"{ARCHIVE} is damaged .*remove the archive and download it again"
    tree = SourceTree(archives)
    for attempt in (
        lambda: list_drives(tree),
        lambda: list_frames(tree, DRIVE, "l"),
        lambda: tree.read(f"{IMAGES}/0000000001.png"),
    ):
        with pytest.raises(KittiDataError, match=words):
            attempt()
    assert tree.read(CALIBRATION)


def test_a_flipped_byte_in_an_archive_is_found_and_spares_the_other_files(archives):
    path, name = archives / ARCHIVE, f"{IMAGES}/0000000001.png"
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo(name).header_offset
    content = bytearray(path.read_bytes())
    content[start + 500] ^= 1
    path.write_bytes(content)
    tree = SourceTree(archives)
    with pytest.raises(KittiDataError, match=f"{name} in {ARCHIVE} is damaged .*download it again"):
        tree.read(name)
    assert tree.read(f"{IMAGES}/0000000002.png")


def test_the_top_folder_of_odometry_archives_is_stripped(tmp_path):
    calibration = "dataset/sequences/09/calib.txt"
    for archive, files in (
        ("data_odometry_calib", {calibration: "P0 Tr"}),
        ("data_odometry_color", {calibration: "P0", "dataset/sequences/09/image_2/000000.png": ""}),
    ):
        with zipfile.ZipFile(tmp_path / f"{archive}.zip", "w") as stream:
            for name, content in files.items():
                stream.writestr(name, content)
    tree = SourceTree(tmp_path)
    assert tree.folders() == ["sequences"]
    assert tree.files("sequences/09/image_2") == {"000000.png"}
    assert tree.read("sequences/09/calib.txt") == b"P0 Tr"  # as when unpacked in alphabetical order
    (tmp_path / "dataset" / "sequences" / "10" / "image_2").mkdir(parents=True)
    assert SourceTree(tmp_path).folders("sequences") == ["09", "10"]


@needs_proc
def test_of_an_archive_only_the_directory_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "big.zip", "w") as archive:
        for number in range(20):
            archive.writestr(f"drive/{number}.bin", os.urandom(1_000_000))

    def num_read():
        return int(Path("/proc/self/io").read_text().split()[1])

    before = num_read()
    tree = SourceTree(tmp_path)
    assert len(tree.files("drive")) == 20
    assert num_read() - before < 100_000
    assert len(tree.read("drive/7.bin")) == 1_000_000
    assert num_read() - before < 1_100_000


def positions():
    """Returns the positions in open archives, by file descriptor."""
    fds = [int(path.name) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    open_archives = [
        fd for fd in fds if str(Path(f"/proc/self/fd/{fd}").readlink()).endswith(".zip")
    ]
    return {fd: os.lseek(fd, 0, os.SEEK_CUR) for fd in open_archives}


@needs_proc
def test_a_forked_process_does_not_move_the_position_of_its_parent(archives):
    tree = SourceTree(archives)
    content = tree.read(f"{IMAGES}/0000000001.png")
    before = positions()
    assert len(before) == 2

    def read_in_child():
        assert tree.read(f"{IMAGES}/0000000001.png") == content
        assert tree.read(f"{IMAGES}/0000000002.png") != content

    child = multiprocessing.get_context("fork").Process(target=read_in_child)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert positions() == before


def test_jobs_that_are_sent_to_a_process_share_its_one_tree(archives):
    tree = SourceTree(archives)
    tree.files(IMAGES)
    first, second = (pickle.loads(pickle.dumps(tree)) for _ in range(2))
    assert first is second is open_tree(archives)
    assert first is not tree
    assert everything(first) == everything(tree)


def test_several_folders_are_one_tree_wherever_it_is_sent(archives, tmp_path):
    (tmp_path / "others").mkdir()
    (archives / ARCHIVE).rename(tmp_path / "others" / ARCHIVE)
    tree = SourceTree(archives, tmp_path / "others")
    for same in (tree, pickle.loads(pickle.dumps(tree))):
        assert list_drives(same) == [DRIVE]
        assert len(same.files(IMAGES)) == 3
        assert same.read(CALIBRATION)
        assert str(same) == f"{archives}, {tmp_path / 'others'}"


def test_an_archive_without_access_is_not_reported_as_damaged(archives):
    (archives / ARCHIVE).unlink()
    (archives / ARCHIVE).symlink_to(ARCHIVE)
    with pytest.raises(
        KittiAccessError, match=rf"{ARCHIVE} cannot be read \(Too many levels.*\); check"
    ):
        SourceTree(archives).folders()


def test_a_folder_named_like_an_archive_is_a_folder(extracted):
    (extracted / DRIVE).rename(extracted / ARCHIVE)
    (extracted / DATE / "linked.zip").symlink_to(extracted / ARCHIVE)
    tree = SourceTree(extracted, extracted / DATE)
    assert tree.folders() == [DATE, ARCHIVE, "linked.zip"]
    assert tree.read(CALIBRATION)
    assert len(tree.files(f"{ARCHIVE}/image_02/data")) == 3


def test_an_archive_with_read_errors_is_not_reported_as_damaged(archives, monkeypatch):
    monkeypatch.setattr(zipfile, "_EndRecData", fail)
    with pytest.raises(
        KittiAccessError, match=rf"{archives}/.*zip cannot be read \(Input/output error"
    ):
        SourceTree(archives).files(IMAGES)


def test_a_file_in_an_archive_with_read_errors_is_not_reported_as_damaged(archives, monkeypatch):
    tree = SourceTree(archives)
    assert tree.files(IMAGES)
    monkeypatch.setattr(zipfile.ZipFile, "open", fail)
    with pytest.raises(KittiAccessError, match=rf"{ARCHIVE} cannot be read \(Input/output error"):
        tree.read(f"{IMAGES}/0000000001.png")


def test_a_link_that_cannot_be_followed_is_reported_when_it_is_read(extracted):
    (extracted / "around").symlink_to("around")
    (extracted / "away").symlink_to("nowhere")
    tree = SourceTree(extracted)
    assert tree.folders() == [DATE, "around"]
    with pytest.raises(KittiAccessError, match=r"around cannot be read \(Too many levels"):
        tree.folders("around")


def test_hidden_files_are_not_archives(archives):
    (archives / f"._{ARCHIVE}").write_bytes(b"what macOS knows of a file")
    assert list_drives(SourceTree(archives)) == [DRIVE]


def test_an_unlisted_folder_is_reported_when_one_of_its_files_is_missed(archives, monkeypatch):
    shutil.copytree(archives, archives / "same")
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (fail if path == archives else scan)(path))
    tree = SourceTree(archives, archives / "same")
    assert len(tree.files(IMAGES)) == 3
    for attempt in (tree.folders, lambda: tree.files("2011_09_28"), lambda: tree.read("calib.txt")):
        with pytest.raises(
            KittiAccessError, match=rf"{archives} cannot be read \(Input/output error"
        ):
            attempt()
