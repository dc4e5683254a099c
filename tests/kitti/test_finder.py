"""Trees of KITTI in other folders than the published ones are found."""

import shutil
import zipfile
from pathlib import Path

import pytest
from helpers.kitti_tree import (
    DATE,
    DRIVE,
    files_of,
    write_annotated,
    write_archives,
    write_drive_with_scans,
)
from helpers.odometry_tree import write_odometry_archives, write_odometry_tree

from md2dist.data.kitti import finder, opening
from md2dist.data.kitti.calibration import read_calibration
from md2dist.data.kitti.finder import search
from md2dist.data.kitti.layout import find_annotated, list_drives
from md2dist.data.kitti.places import Folder
from md2dist.data.kitti.roots import open_kitti
from md2dist.data.kitti.tree import SourceTree
from md2dist.errors import KittiAccessError, KittiDataError

NAME = DRIVE.partition("/")[2]
IMAGES = f"{DRIVE}/image_02/data"


@pytest.fixture
def kitti(tmp_path):
    """One drive in the published layout."""
    return write_drive_with_scans(tmp_path / "kitti")


def move(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, target)


def extract_each_archive_into_its_own_folder(kitti, root):
    write_archives(kitti, root / "zips")
    for path in (root / "zips").iterdir():
        with zipfile.ZipFile(path) as archive:
            archive.extractall(root / path.stem)
    shutil.rmtree(root / "zips")
    return root


def leave_out_the_date(kitti, root):
    shutil.copytree(kitti / DRIVE, root / NAME)
    for path in (kitti / DATE).glob("*.txt"):
        shutil.copy(path, root)
    return root


def leave_out_the_date_of_the_drive_alone(kitti, root):
    shutil.copytree(kitti / DRIVE, root / "drives" / NAME)
    (root / f"{DATE}_calib").mkdir()
    for path in (kitti / DATE).glob("*.txt"):
        shutil.copy(path, root / f"{DATE}_calib")
    return root


def add_folders_around(kitti, root):
    shutil.copytree(kitti, root / "KITTI" / "raw_data")
    return root


def name_the_folder_of_the_date(kitti, root):
    shutil.copytree(kitti, root, dirs_exist_ok=True)
    return root / DATE


def name_a_link_to_the_folder_of_the_date(kitti, root):
    (root / "link").symlink_to(kitti / DATE)
    return root / "link"


def name_the_folder_of_the_drive(kitti, root):
    shutil.copytree(kitti, root, dirs_exist_ok=True)
    return root / DRIVE


def keep_the_zips_in_folders(kitti, root):
    write_archives(kitti, root / "downloads" / "raw")
    return root


def follow_links(kitti, root):
    (root / "deep").mkdir()
    (root / "deep" / "first").symlink_to(kitti)
    (root / "deep" / "second").symlink_to(kitti)
    (root / "deep" / "around").symlink_to(root)
    (root / "deep" / "loop").symlink_to(root / "deep" / "loop")
    return root


def leave_traces_of_macos(kitti, root):
    for top in ("raw", "__MACOSX", ".Trash"):
        shutil.copytree(kitti, root / top)
    return root


LAYOUTS = [
    extract_each_archive_into_its_own_folder,
    leave_out_the_date,
    leave_out_the_date_of_the_drive_alone,
    add_folders_around,
    name_the_folder_of_the_date,
    name_a_link_to_the_folder_of_the_date,
    name_the_folder_of_the_drive,
    keep_the_zips_in_folders,
    follow_links,
    leave_traces_of_macos,
]


@pytest.mark.parametrize("arrange", LAYOUTS)
def test_a_drive_is_found_in_whatever_folders_it_is(kitti, tmp_path, arrange):
    (tmp_path / "root").mkdir()
    tree = open_kitti(arrange(kitti, tmp_path / "root"))
    assert list_drives(tree) == [DRIVE]
    for name, content in files_of(kitti).items():
        assert tree.read(name) == content
        assert tree.size(name) == len(content)
    assert len(tree.files(IMAGES)) == 3
    assert read_calibration(tree, DRIVE).baseline


def test_sequences_of_archives_that_were_extracted_into_folders_of_their_own_are_found(
    kitti, tmp_path
):
    write_odometry_tree(kitti, tmp_path / "odometry")
    write_odometry_archives(tmp_path / "odometry", tmp_path / "zips")
    for path in (tmp_path / "zips").iterdir():
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path / "own" / path.stem)
    expected = files_of(tmp_path / "odometry")
    for root in (tmp_path / "own", tmp_path / "odometry" / "sequences"):
        tree = open_kitti(root)
        assert {name: tree.read(name) for name in expected} == expected
        assert len(tree.files("sequences/09/image_2")) == 3
    tree = open_kitti(tmp_path / "odometry" / "sequences" / "09")
    assert {name: tree.read(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("train", "train/"),
        ("data_depth_annotated/train", "train/"),
        ("depth/data_depth_annotated/val", "val/"),
        ("depth", ""),
        (DATE, ""),  # merged into the drives
        (f"{NAME}/{DATE}", ""),
    ],
)
def test_annotated_depth_is_found_in_whatever_folders_it_is(kitti, place, name):
    write_annotated(kitti / place)
    tree = open_kitti(kitti)
    expected = f"{name}{NAME}/proj_depth/groundtruth/image_02/0000000001.png"
    assert find_annotated(tree, DRIVE, 1, "l") == expected
    path = kitti / place / NAME / "proj_depth" / "groundtruth" / "image_02" / "0000000001.png"
    assert tree.read(expected) == path.read_bytes()
    assert list_drives(tree) == [DRIVE]


def test_what_is_in_the_published_folders_comes_first(kitti):
    shutil.copytree(kitti / DATE, kitti / "a_copy" / DATE)
    (kitti / "a_copy" / IMAGES / "0000000001.png").write_bytes(b"another")
    tree = open_kitti(kitti)
    content = (kitti / IMAGES / "0000000001.png").read_bytes()
    assert tree.read(f"{IMAGES}/0000000001.png") == content
    assert len(tree.files(IMAGES)) == 3


def test_a_drive_that_is_found_in_two_folders_is_refused(kitti, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(kitti, tmp_path / "root" / name)
    words = rf"{IMAGES} is present extracted in a/{IMAGES[:-5]} and extracted in b/{IMAGES[:-5]}; k"
    with pytest.raises(KittiDataError, match=words):
        open_kitti(tmp_path / "root").files(IMAGES)


def test_a_search_ends_after_a_number_of_files(kitti, tmp_path, monkeypatch):
    for number in range(30):
        (tmp_path / "root" / f"{number:02d}").mkdir(parents=True)
        (tmp_path / "root" / f"{number:02d}" / "file").touch()
    assert search(Folder(tmp_path / "root"), 100).is_complete
    result = search(Folder(tmp_path / "root"), 40)
    assert not result.is_complete
    monkeypatch.setattr(finder, "MAX_FOLDER", 20)
    assert not search(Folder(tmp_path / "root"), 1000).is_complete


def test_folders_with_names_of_kitti_are_searched_before_the_search_ends(kitti, tmp_path):
    for number in range(30):
        (tmp_path / "root" / "a" / f"{number:02d}" / "folder" / "folder").mkdir(parents=True)
    move(kitti, tmp_path / "root" / "kitti")
    found = search(Folder(tmp_path / "root"), 40)
    assert not found.is_complete
    assert IMAGES[:-5] in {name for name, _ in found.found}


def test_a_rule_never_selects_from_some_of_the_drives(kitti, tmp_path, monkeypatch):
    move(kitti, tmp_path / "root" / "inside")
    monkeypatch.setattr(opening, "search", lambda folder: search(folder, 5))
    tree = SourceTree(tmp_path / "root")
    assert not tree.is_searched()
    assert list_drives(tree) == []


def test_a_search_is_deep_enough_but_not_endless(kitti, tmp_path):
    move(kitti, tmp_path / "root" / "1" / "2" / "3")
    assert list_drives(SourceTree(tmp_path / "root")) == [DRIVE]
    move(tmp_path / "root", tmp_path / "others" / "root")
    assert list_drives(SourceTree(tmp_path / "others")) == []


def test_a_drive_without_access_is_not_called_missing(kitti, tmp_path, monkeypatch):
    move(kitti, tmp_path / "root" / "inside")
    work = Folder.list

    def deny(self, folder, limit):
        if folder.endswith(DATE):
            raise KittiAccessError(f"{folder} cannot be read (Permission denied)")
        return work(self, folder, limit)

    monkeypatch.setattr(Folder, "list", deny)
    with pytest.raises(KittiAccessError, match=f"inside/{DATE} cannot be read"):
        SourceTree(tmp_path / "root").files(IMAGES)


@pytest.mark.parametrize(
    ("name", "is_error"), [(f"{DATE}_drive_0001_sync.zip", True), ("b.zip", False)]
)
def test_a_damaged_archive_in_a_folder_counts_if_its_name_is_one_of_kitti(kitti, name, is_error):
    (kitti / "downloads").mkdir()
    (kitti / "downloads" / name).write_bytes(b"no zip")
    if is_error:
        with pytest.raises(KittiDataError, match=f"downloads/{name} is damaged"):
            list_drives(SourceTree(kitti))
    else:
        assert list_drives(SourceTree(kitti)) == [DRIVE]


def test_the_root_of_the_file_system_can_be_searched():
    assert isinstance(search(Folder(Path("/")), 2000).is_complete, bool)
