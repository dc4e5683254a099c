"""What is said of a --kitti-root without the files that are needed."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from helpers.kitti_tree import DATE, DRIVE, write_annotated, write_archives, write_kitti_tree

from md2dist.data.kitti import opening, roots
from md2dist.data.kitti.finder import search
from md2dist.data.kitti.layout import find_image
from md2dist.data.kitti.roots import open_kitti
from md2dist.data.kitti.source import KittiSource
from md2dist.data.kitti.split_rules import select_samples
from md2dist.data.kitti.splits import SplitLine
from md2dist.data.kitti.tree import SourceTree
from md2dist.data.packing.plan import plan_samples
from md2dist.data.shards.recipe import Recipe
from md2dist.errors import KittiAccessError, KittiDataError, SplitError

RECIPE = Recipe("small", 32, 64, (-1, 1), True)
OTHER = DRIVE.replace("0005", "0009")


@pytest.fixture
def kitti(tmp_path):
    write_kitti_tree(tmp_path / "data" / "kitti", num_frames=3)
    return tmp_path / "data" / "kitti"


def refusal(act, *arguments, error=KittiDataError, **options):
    with pytest.raises(error) as caught:
        act(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_without_kitti_is_refused_with_its_contents_and_the_folder_that_has_it(kitti):
    (kitti.parent / "empty").mkdir()
    message = refusal(open_kitti, kitti.parent / "empty")
    assert "empty holds nothing of KITTI (no files)" in message
    assert f"; --kitti-root {kitti} would find {DRIVE}/image_02" in message
    for name in ("a.txt", "b", "c", "d"):
        (kitti.parent / "empty" / name).mkdir()
    assert "nothing of KITTI (a.txt, b, c and 1 more)" in refusal(
        open_kitti, kitti.parent / "empty"
    )
    assert open_kitti(kitti.parent / "empty", kitti)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere", "nowhere does not exist; expected a folder"),
        ("nowhere/inside", "inside does not exist; expected a folder"),
        ("drive.zip", "drive.zip is a file; expected a folder"),
    ],
)
def test_a_root_that_is_no_folder_is_refused_with_the_folder_that_was_meant(kitti, name, words):
    (kitti / "drive.zip").touch()
    for path in (kitti / name, kitti.parent / name):
        (kitti.parent / "drive.zip").touch()
        message = refusal(open_kitti, kitti, path)
        assert f"--kitti-root {path.parent}/{words}" in message
        assert f"; --kitti-root {kitti} would find {DRIVE}/image_02" in message


def test_folders_inside_a_drive_are_refused_with_the_folder_that_was_meant(kitti):
    message = refusal(open_kitti, kitti / DRIVE / "image_02")
    assert f"; --kitti-root {kitti / DRIVE} would find {DRIVE}/image_02" in message


def test_archives_in_another_folder_are_pointed_to(kitti):
    write_archives(kitti, kitti.parent / "zips")
    shutil.rmtree(kitti)
    (kitti.parent / "empty").mkdir()
    message = refusal(open_kitti, kitti.parent / "empty")
    assert f"; --kitti-root {kitti.parent / 'zips'} would find {DRIVE}/image_02" in message


def test_a_missing_drive_is_reported_with_those_that_are_there(kitti):
    line = SplitLine(OTHER, 1, "l")
    message = refusal(plan_samples, KittiSource(SourceTree(kitti)), [line], RECIPE)
    assert f"no folder {OTHER}/image_03/data; download the drive" in message.replace("02", "03")
    assert f"{kitti} holds KITTI raw {DRIVE}" in message
    assert message.endswith(f"(in {kitti}; --skip-bad skips such samples)")
    shutil.copytree(kitti / DRIVE, kitti.parent / "more" / OTHER)
    message = refusal(plan_samples, KittiSource(SourceTree(kitti)), [line], RECIPE)
    assert f"; --kitti-root {kitti.parent / 'more'} would find {OTHER}/image_02" in message


def test_a_missing_frame_of_a_drive_is_reported_without_the_drives(kitti):
    message = refusal(
        plan_samples, KittiSource(SourceTree(kitti)), [SplitLine(DRIVE, 7, "l")], RECIPE
    )
    assert "0000000007.png" in message
    assert "holds" not in message


def test_missing_calibrations_scans_and_maps_are_pointed_to(kitti):
    line, more = SplitLine(DRIVE, 1, "l"), kitti.parent / "more"

    def plan(**options):
        return refusal(
            plan_samples, KittiSource(SourceTree(kitti)), [line], Recipe(**vars(RECIPE) | options)
        )

    write_kitti_tree(more, num_frames=3, use_scans=True)
    assert f"; --kitti-root {more} would find {DRIVE}/velo" in plan(ground_truth="velodyne")
    write_annotated(more / "train", 3)
    assert f"; --kitti-root {more} would find train/" in plan(ground_truth="annotated")
    (kitti / DATE / "calib_cam_to_cam.txt").unlink()
    assert f"; --kitti-root {more} would find {DATE}/calib_cam_to_cam.txt" in plan()


def test_an_unsynced_recording_is_not_taken_for_the_drive(kitti):
    unsynced = DRIVE.replace("_sync", "_extract")
    (kitti / DRIVE).rename(kitti / unsynced)
    message = refusal(
        plan_samples, KittiSource(SourceTree(kitti)), [SplitLine(DRIVE, 1, "l")], RECIPE
    )
    assert f"{unsynced} is the unsynced and unrectified recording: download {DRIVE}" in message


def test_a_split_without_any_sample_is_reported_with_the_contents(kitti):
    shutil.rmtree(kitti / DRIVE)
    arguments = SourceTree(kitti), "train", (), False
    assert "holds calibrations only" in refusal(select_samples, *arguments, error=SplitError)
    lines = [SplitLine(DRIVE, 1, "l")]
    message = refusal(plan_samples, KittiSource(SourceTree(kitti)), lines, RECIPE, skip_bad=True)
    assert message.endswith(f"; {kitti} holds calibrations only")


def test_the_end_of_a_search_is_reported(kitti, monkeypatch):
    monkeypatch.setattr(opening, "search", lambda folder: search(folder, 1))
    message = refusal(
        plan_samples, KittiSource(SourceTree(kitti.parent)), [SplitLine(DRIVE, 1, "l")], RECIPE
    )
    assert f"only {roots.MAX_ENTRIES} files and folders were searched: name the folder" in message
    assert open_kitti(kitti.parent)  # nothing is known to be missing


def test_a_root_that_cannot_be_read_is_reported(tmp_path, monkeypatch):
    def refuse(self, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "is_dir", refuse)
    words = rf"--kitti-root {tmp_path} cannot be read \(Permission denied\)"
    with pytest.raises(KittiAccessError, match=words):
        open_kitti(tmp_path)


def test_all_archives_of_a_root_may_be_damaged(kitti):
    (kitti.parent / "zips").mkdir()
    (kitti.parent / "zips" / "all.zip").write_bytes(b"no zip")
    assert "all.zip is damaged" in refusal(open_kitti, kitti.parent / "zips")
    assert find_image(open_kitti(kitti, kitti.parent / "zips"), DRIVE, 0, "l")
