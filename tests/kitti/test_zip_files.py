"""Zip archives with other names in them than the published ones."""

import shutil
import zipfile

import pytest
from helpers.kitti_tree import (
    DATE,
    DRIVE,
    files_of,
    write_annotated,
    write_archives,
    write_drive_with_scans,
)
from helpers.odometry_tree import write_odometry_tree

from md2dist.data.kitti.layout import find_annotated, list_drives
from md2dist.data.kitti.roots import open_kitti
from md2dist.data.kitti.tree import SourceTree
from md2dist.errors import KittiDataError

NAME = DRIVE.partition("/")[2]
IMAGES = f"{DRIVE}/image_02/data"


@pytest.fixture
def kitti(tmp_path):
    (tmp_path / "root").mkdir()
    return write_drive_with_scans(tmp_path / "kitti")


def write_zip(path, files, rename, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo("x")
            info.filename = rename(name)  # as it is: the constructor changes separators
            info.compress_type = compression
            archive.writestr(info, content)


@pytest.mark.parametrize(
    ("archive", "rename"),
    [
        ("all.zip", lambda name: f"one/more/{name}"),
        ("all.zip", lambda name: f"./{name}"),
        ("all.zip", lambda name: f"/{name}"),
        ("all.zip", lambda name: f"C:\\data\\{name}".replace("/", "\\")),
        ("all.zip", lambda name: name.replace("/", "\\")),
        ("ALL.ZIP", lambda name: name),
        ("all.zip", lambda name: name.removeprefix(f"{DATE}/")),
        (f"{DATE}.zip", lambda name: name.removeprefix(f"{DATE}/")),
        ("sub/folder/all.Zip", lambda name: f"kitti/{name}"),
    ],
)
def test_the_start_of_names_in_an_archive_does_not_matter(kitti, tmp_path, archive, rename):
    files = files_of(kitti)
    path = tmp_path / "root" / archive
    path.parent.mkdir(parents=True, exist_ok=True)
    write_zip(path, files, rename)
    for root in (tmp_path / "root", path):
        tree = open_kitti(root)
        assert list_drives(tree) == [DRIVE]
        assert {name: tree.read(name) for name in files} == files


def test_a_drive_and_its_calibration_may_lack_their_folders_in_archives_of_their_names(
    kitti, tmp_path
):
    files = files_of(kitti)
    drive = {name: content for name, content in files.items() if name.startswith(DRIVE)}
    others = {name: files[name] for name in files.keys() - drive.keys()}
    write_zip(tmp_path / "root" / f"{NAME}.zip", drive, lambda name: name.removeprefix(f"{DRIVE}/"))
    write_zip(
        tmp_path / "root" / f"{DATE}_calib.zip", others, lambda name: name.removeprefix(f"{DATE}/")
    )
    tree = open_kitti(tmp_path / "root")
    assert {name: tree.read(name) for name in files} == files


def test_a_sequence_may_lack_its_folders_in_an_archive_of_its_name(kitti, tmp_path):
    write_odometry_tree(kitti, tmp_path / "odometry")
    files = files_of(tmp_path / "odometry")
    write_zip(tmp_path / "root" / "09.zip", files, lambda name: name.removeprefix("sequences/09/"))
    tree = open_kitti(tmp_path / "root")
    assert {name: tree.read(name) for name in files} == files


def test_annotated_depth_is_found_in_an_archive_with_a_folder_around(kitti, tmp_path):
    write_annotated(tmp_path / "depth" / "val")
    write_zip(tmp_path / "root" / "d.zip", files_of(tmp_path / "depth"), lambda name: f"d/{name}")
    tree = open_kitti(kitti, tmp_path / "root")
    found = find_annotated(tree, DRIVE, 1, "l")
    assert found == f"val/{NAME}/proj_depth/groundtruth/image_02/0000000001.png"


def test_what_macos_adds_to_an_archive_is_no_drive(kitti, tmp_path):
    files = files_of(kitti)
    traces = {f"__MACOSX/{name.rpartition('/')[0]}/._file": b"trace" for name in files}
    write_zip(tmp_path / "root" / "all.zip", files | traces, lambda name: name)
    tree = open_kitti(tmp_path / "root")
    assert len(tree.files(IMAGES)) == 3
    assert list_drives(tree) == [DRIVE]


def test_archives_that_are_stored_in_an_archive_are_read(kitti, tmp_path):
    write_archives(kitti, tmp_path / "inner")
    inner = files_of(tmp_path / "inner")
    write_zip(tmp_path / "root" / "all.zip", inner, lambda name: f"a/{name}", zipfile.ZIP_STORED)
    files, tree = files_of(kitti), open_kitti(tmp_path / "root")
    assert {name: tree.read(name) for name in files} == files
    path = tmp_path / "root" / "all.zip"
    content = bytearray(path.read_bytes())
    content[content.index(files[f"{IMAGES}/0000000001.png"][100:140])] ^= 1
    path.write_bytes(content)
    with pytest.raises(KittiDataError, match=rf"0001\.png in {NAME}\.zip in all\.zip is damaged"):
        SourceTree(tmp_path / "root").read(f"{IMAGES}/0000000001.png")


def test_compressed_archives_in_an_archive_have_to_be_extracted_once(kitti, tmp_path):
    write_archives(kitti, tmp_path / "inner")
    write_zip(tmp_path / "root" / "all.zip", files_of(tmp_path / "inner"), lambda name: name)
    words = r"all\.zip holds archives in compressed form, such as .*zip; extract all\.zip, but not"
    with pytest.raises(KittiDataError, match=words):
        open_kitti(tmp_path / "root")
    with pytest.raises(KittiDataError, match=words):
        SourceTree(tmp_path / "root").files(IMAGES)


def test_archives_in_archives_in_an_archive_have_to_be_extracted(kitti, tmp_path):
    write_archives(kitti, tmp_path / "inner")
    (tmp_path / "middle").mkdir()
    stored = zipfile.ZIP_STORED
    write_zip(tmp_path / "middle" / "m.zip", files_of(tmp_path / "inner"), lambda n: n, stored)
    write_zip(tmp_path / "root" / "all.zip", files_of(tmp_path / "middle"), lambda n: n, stored)
    with pytest.raises(KittiDataError, match=r"such as m\.zip; extract all\.zip"):
        open_kitti(tmp_path / "root")


def test_a_name_that_leads_out_of_its_archive_is_refused(kitti, tmp_path):
    write_zip(tmp_path / "root" / "all.zip", files_of(kitti), lambda name: f"../{name}")
    with pytest.raises(
        KittiDataError, match=r"file name '\.\./2011.* in all\.zip is not valid; pack"
    ):
        open_kitti(tmp_path / "root")


def test_a_file_that_is_twice_in_an_archive_must_be_the_same(kitti, tmp_path):
    files, path = files_of(kitti), tmp_path / "root" / "all.zip"
    copies = {f"a/{name}": content for name, content in files.items()}
    copies |= {f"b/{name}": content for name, content in files.items()}
    write_zip(path, copies, lambda name: name)
    tree = open_kitti(tmp_path / "root")
    assert {name: tree.read(name) for name in files} == files
    copies[f"b/{IMAGES}/0000000001.png"] = b"another"
    write_zip(path, copies, lambda name: name)
    with pytest.raises(KittiDataError, match=rf"all\.zip holds {IMAGES}/0000000001\.png twice"):
        open_kitti(tmp_path / "root")


def test_extracted_files_come_before_the_same_in_archives_of_other_folders(kitti, tmp_path):
    write_archives(kitti, kitti / "zips")
    tree = open_kitti(kitti)
    assert len(tree.files(IMAGES)) == 3
    shutil.rmtree(kitti / DATE)
    assert len(open_kitti(kitti).files(IMAGES)) == 3
