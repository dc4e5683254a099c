"""Packing from folders, archives, both, and damaged sources."""

import dataclasses
import errno
import os
import shutil
import zipfile
from functools import partial
from pathlib import Path

import pytest
from helpers.kitti_tree import (
    DATE,
    DRIVE,
    image_path,
    scan_path,
    write_archive,
    write_archives,
    write_kitti_tree,
)
from helpers.packing_command import bytes_of, pack_plan, skipped_in
from PIL import Image

from md2dist.data.kitti.archives import list_archives
from md2dist.data.kitti.named_splits import load_split
from md2dist.data.kitti.source import KittiSource
from md2dist.data.kitti.splits import SplitLine
from md2dist.data.kitti.tree import SourceTree
from md2dist.data.packing.merge import merge_shards
from md2dist.data.packing.plan import plan_samples
from md2dist.data.packing.writer import pack_shards
from md2dist.data.shards.recipe import Recipe
from md2dist.errors import KittiAccessError, KittiDataError

RECIPE = Recipe("small", 32, 64, (-1, 1), True, samples_per_shard=5, ground_truth="velodyne")
LINES = [SplitLine(DRIVE, frame, side) for side in "lr" for frame in range(1, 7)]
ARCHIVE = f"{DRIVE.partition('/')[2]}.zip"


@pytest.fixture
def extracted(tmp_path):
    """A drive with PNGs and JPEGs."""
    root = tmp_path / "extracted"
    write_kitti_tree(root, num_frames=8, use_scans=True)
    path = image_path(root, DRIVE, 2, "r")
    Image.open(path).save(path.with_suffix(".jpg"))
    path.unlink()
    return root


@pytest.fixture
def archives(extracted, tmp_path):
    write_archives(extracted, tmp_path / "archives")
    return tmp_path / "archives"


def pack(root, output, recipe=RECIPE, lines=LINES, *, skip_bad=False, processes=1):
    plan = plan_samples(KittiSource(SourceTree(root)), lines, recipe, skip_bad=skip_bad)
    return pack_plan(plan, output, num_processes=processes)


def test_archives_give_the_bytes_that_folders_give(extracted, archives, tmp_path):
    pack(extracted, tmp_path / "from_folders")
    pack(archives, tmp_path / "from_archives")
    assert bytes_of(tmp_path / "from_folders") == bytes_of(tmp_path / "from_archives")


def test_the_real_drive_gives_the_same_bytes_from_its_archive(kitti_raw, tmp_path):
    for name in (DRIVE, f"{DATE}/calib_cam_to_cam.txt", f"{DATE}/calib_velo_to_cam.txt"):
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).symlink_to((kitti_raw / name).resolve())
    write_archives(tmp_path / "folder", tmp_path / "archives")
    published = {Path(name).name for name in list_archives(["2011_09_26_drive_0005"])}
    assert {path.name for path in (tmp_path / "archives").iterdir()} == published
    lines = [SplitLine(DRIVE, frame, side) for frame in (4, 24, 76, 147) for side in "lr"]
    recipe = dataclasses.replace(RECIPE, height=192, width=640)
    pack(tmp_path / "folder", tmp_path / "from_folder", recipe, lines)
    pack(tmp_path / "archives", tmp_path / "from_archives", recipe, lines)
    assert bytes_of(tmp_path / "from_folder") == bytes_of(tmp_path / "from_archives")


@pytest.mark.slow
def test_several_processes_read_the_same_archives(archives, tmp_path):
    pack(archives, tmp_path / "one")
    pack(archives, tmp_path / "two", processes=2)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")


def test_an_unfinished_packing_resumes_from_the_archives(extracted, archives, tmp_path):
    pack(extracted, tmp_path / "expected")
    folder_plan = plan_samples(KittiSource(SourceTree(extracted)), LINES, RECIPE)
    pack_shards(folder_plan, tmp_path / "out", task_index=1, num_tasks=3)
    archive_plan = plan_samples(KittiSource(SourceTree(archives)), LINES, RECIPE)
    assert pack_shards(archive_plan, tmp_path / "out").num_kept == 1
    merge_shards(archive_plan, tmp_path / "out")
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "expected")


def test_a_rule_selects_the_same_samples_from_archives(kitti_raw, tmp_path):
    drive, folder = kitti_raw / DRIVE, tmp_path / "folder"
    (folder / DATE).mkdir(parents=True)
    (folder / DRIVE).symlink_to(drive.resolve())
    (tmp_path / "archives").mkdir()
    files = [path for path in sorted((folder / DRIVE).rglob("*")) if path.suffix != ".bin"]
    write_archive(tmp_path / "archives" / ARCHIVE, folder, files)
    select = partial(load_split, "rule/train", frame_offsets=(-1, 1), use_stereo=True)
    assert select(SourceTree(folder)) == select(SourceTree(tmp_path / "archives"))


def test_a_missing_scan_camera_and_drive_are_reported_with_the_remedy(extracted):
    def plan(line, recipe):
        return plan_samples(KittiSource(SourceTree(extracted)), [line], recipe)

    line, recipe = SplitLine(DRIVE, 3, "l"), dataclasses.replace(RECIPE, ground_truth="none")
    scan_path(extracted, 3).unlink()
    with pytest.raises(KittiDataError, match=r"0000000003\.bin.*--ground-truth none"):
        plan(line, RECIPE)
    (extracted / DRIVE / "image_03").rename(extracted / "elsewhere")
    with pytest.raises(KittiDataError, match=r"image_03/data is missing.*--no-stereo"):
        plan(line, recipe)
    assert len(plan(line, dataclasses.replace(recipe, use_stereo=False)).samples) == 1
    with pytest.raises(KittiDataError, match=r"no folder .*0006_sync/image_02/data; download"):
        plan(line._replace(drive=DRIVE.replace("0005", "0006")), recipe)


def truncate(path):
    path.write_bytes(path.read_bytes()[:300])


def truncate_png(root):
    truncate(image_path(root, DRIVE, 4, "l"))


def truncate_jpg(root):
    truncate(image_path(root, DRIVE, 2, "r"))


def empty_scan(root):
    scan_path(root, 5).write_bytes(b"")


@pytest.mark.parametrize("in_archive", [False, True])
@pytest.mark.parametrize(
    ("harm", "name", "num_bad"),
    [
        (truncate_png, "image_02/data/0000000004.png is broken", 4),
        (truncate_jpg, "image_03/data/0000000002.jpg is broken", 4),
        (empty_scan, "velodyne_points/data/0000000005.bin has 0 bytes", 2),
    ],
)
def test_a_broken_file_is_named_or_reported_as_skipped(
    extracted, tmp_path, harm, name, num_bad, in_archive
):
    harm(extracted)
    root = extracted
    if in_archive:
        root = tmp_path / "archives"
        write_archives(extracted, root)
    with pytest.raises(KittiDataError, match=f"{name}.*in {root}; --skip-bad"):
        pack(root, tmp_path / "out")
    manifest = pack(root, tmp_path / "out", skip_bad=True)
    assert manifest.num_skipped == num_bad
    assert manifest.num_samples == len(LINES) - num_bad
    assert all(name in reason for reason in skipped_in(tmp_path / "out").values())


def test_skipped_lines_are_reported_in_the_same_words_from_an_archive(extracted, tmp_path):
    truncate_png(extracted)
    empty_scan(extracted)
    write_archives(extracted, tmp_path / "archives")
    lines = [*LINES, SplitLine(DRIVE, 7, "l"), SplitLine(DRIVE[:-9] + "0006_sync", 1, "l")]
    for root in (extracted, tmp_path / "archives"):
        pack(root, tmp_path / f"from_{root.name}", lines=lines, skip_bad=True)
    assert bytes_of(tmp_path / "from_extracted") == bytes_of(tmp_path / "from_archives")


def flip_byte(archives, extracted):
    path = archives / ARCHIVE
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo(f"{DRIVE}/image_02/data/0000000004.png").header_offset
    content = bytearray(path.read_bytes())
    content[start + 1000] ^= 1
    path.write_bytes(content)


def truncate_archive(archives, extracted):
    truncate(archives / ARCHIVE)


def add_folder(archives, extracted):
    shutil.copytree(extracted / DRIVE, archives / DRIVE)


def add_archive(archives, extracted):
    shutil.copy(archives / ARCHIVE, archives / "copy.zip")


@pytest.mark.parametrize(
    ("harm", "words", "num_bad"),
    [
        (flip_byte, rf"0000000004\.png in {ARCHIVE} is damaged \(.*download it again", 4),
        (truncate_archive, f"{ARCHIVE} is damaged .*download it again", 12),
        (add_folder, f"duplicate drive: {DRIVE}/image_0.* is present extracted and in", 12),
        (add_archive, "duplicate drive: .* in .*zip and in copy.zip; keep one", 12),
    ],
)
def test_an_archive_with_a_fault_is_named_or_its_samples_are_reported_as_skipped(
    extracted, archives, tmp_path, harm, words, num_bad
):
    other = f"{DATE}/{DATE}_drive_0009_sync"
    shutil.copytree(extracted / DRIVE, tmp_path / "other" / other)
    shutil.copytree(tmp_path / "other" / other, archives / other)
    harm(archives, extracted)
    lines = [*LINES, SplitLine(other, 3, "l")]
    with pytest.raises(KittiDataError, match=f"{words}.*--skip-bad"):
        pack(archives, tmp_path / "out", lines=lines)
    assert not list(tmp_path.glob("out/[!.]*"))
    manifest = pack(archives, tmp_path / "out", lines=lines, skip_bad=True)
    assert manifest.num_samples == 13 - num_bad
    assert {line.partition(" ")[0] for line in skipped_in(tmp_path / "out")} == {DRIVE}


def test_a_calibration_that_lacks_an_entry_does_not_affect_other_dates(extracted, tmp_path):
    other = DRIVE.replace(DATE, "2011_09_28")
    shutil.copytree(extracted / DATE, extracted / "2011_09_28")
    (extracted / "2011_09_28" / DRIVE.partition("/")[2]).rename(extracted / other)
    path = extracted / DATE / "calib_cam_to_cam.txt"
    path.write_text(path.read_text().replace("P_rect_03", "P_rect_3"))
    write_archives(extracted, tmp_path / "archives")
    lines = [SplitLine(DRIVE, 3, "l"), SplitLine(other, 3, "l")]
    words = "calib_cam_to_cam.txt: expected an entry P_rect_03 of 12 numbers"
    with pytest.raises(KittiDataError, match=f"{words}.*--skip-bad"):
        pack(tmp_path / "archives", tmp_path / "out", lines=lines)
    manifest = pack(tmp_path / "archives", tmp_path / "out", lines=lines, skip_bad=True)
    assert manifest.skipped == ((str(lines[0]), f"{DATE}/{words}", 1),)


@pytest.mark.parametrize("step", ["stat", "read_bytes"])
@pytest.mark.parametrize(
    "name",
    [
        f"{DRIVE}/image_03/data/0000000004.png",
        f"{DRIVE}/velodyne_points/data/0000000004.bin",
        f"{DATE}/calib_cam_to_cam.txt",
    ],
)
def test_a_file_that_cannot_be_read_is_never_skipped(extracted, tmp_path, monkeypatch, name, step):
    path, work = extracted / name, getattr(Path, step)

    def fail_there(self, **options):
        if self == path:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return work(self, **options)

    monkeypatch.setattr(Path, step, fail_there)
    with pytest.raises(
        KittiAccessError, match=rf"^{path} cannot be read \(Input/output error\); check"
    ):
        pack(extracted, tmp_path / "out", skip_bad=True)
    assert not list(tmp_path.glob("out/[!.]*"))


def test_a_dangling_link_is_a_missing_frame_but_a_link_loop_is_an_error(extracted, tmp_path):
    path = image_path(extracted, DRIVE, 1, "l")
    path.unlink()
    path.symlink_to(extracted / "nowhere")
    assert pack(extracted, tmp_path / "out", skip_bad=True).num_skipped == 3
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(KittiAccessError, match=rf"^{path} cannot be read \(Too many levels"):
        pack(extracted, tmp_path / "other", skip_bad=True)
