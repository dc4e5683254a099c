"""Source files that change while a packing is unfinished."""

import dataclasses
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.kitti_tree import (
    DATE,
    DRIVE,
    FX,
    HEIGHT,
    WIDTH,
    image_path,
    scan_path,
    write_annotated,
    write_archive,
    write_kitti_tree,
)
from helpers.packing_command import bytes_of, pack_plan
from PIL import Image

from md2dist.data.kitti.source import KittiSource
from md2dist.data.kitti.splits import SplitLine
from md2dist.data.kitti.tree import SourceTree
from md2dist.data.packing import image_store
from md2dist.data.packing.folder import PackingFolder
from md2dist.data.packing.merge import merge_shards
from md2dist.data.packing.plan import plan_samples
from md2dist.data.packing.writer import pack_shards
from md2dist.data.shards.recipe import Recipe
from md2dist.errors import KittiDataError, ShardError

RECIPE = Recipe("small", 32, 64, (-1, 1), use_stereo=True, samples_per_shard=2)
LINES = [SplitLine(DRIVE, frame, side) for side in "lr" for frame in range(1, 4)]
BIG = 20_000  # bytes


class Killed(BaseException):
    """Simulated end of the process; no handler of the package catches it."""


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "kitti"
    write_kitti_tree(root, num_frames=5, use_scans=True)
    write_annotated(root / "train", num_frames=5)
    points = np.random.default_rng(2).uniform((2, -3, -1, 0), (40, 3, 1, 1), (BIG // 16, 4))
    for frame in range(5):
        scan_path(root, frame).write_bytes(points.astype("<f4").tobytes())
    for path in root.glob("train/**/*.png"):
        path.write_bytes(path.read_bytes().ljust(BIG, b"\0"))  # decoders ignore bytes at the end
    return root


def make_plan(tree, ground_truth="none", *, skip_bad=False):
    recipe = dataclasses.replace(RECIPE, ground_truth=ground_truth)
    return plan_samples(KittiSource(SourceTree(tree)), LINES, recipe, skip_bad=skip_bad)


def pack(plan, output):
    pack_plan(plan, output)
    return bytes_of(output)


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def other_frame(tree):
    return image_path(tree, DRIVE, 2, "l"), png(np.full((HEIGHT, WIDTH, 3), 7, np.uint8))


def other_scan(tree):
    path = scan_path(tree, 2)
    points = np.frombuffer(path.read_bytes(), "<f4") * np.float32(0.9)
    return path, points.tobytes()


def other_annotated_depth(tree):
    folder = tree / "train" / DRIVE.partition("/")[2] / "proj_depth" / "groundtruth" / "image_02"
    return folder / "0000000002.png", png(np.full((HEIGHT, WIDTH), 999, np.uint16))


def other_calibration(tree):
    path = tree / DATE / "calib_cam_to_cam.txt"
    return path, path.read_bytes().replace(b"%.6e" % FX, b"%.6e" % (FX + 1))


CHANGES = [
    ("none", other_frame),
    ("velodyne", other_scan),
    ("annotated", other_annotated_depth),
    ("none", other_calibration),
]


def replace(path: Path, content: bytes) -> None:
    """Replaces a file by one of the same size and time of modification, as `cp -p` can."""
    before, old = path.stat(), path.read_bytes()
    content = content.ljust(len(old), b"\0")
    assert content != old
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.mark.parametrize("in_archives", [False, True])
@pytest.mark.parametrize("killed_at", [None, "write_record"])
@pytest.mark.parametrize(("ground_truth", "change"), CHANGES)
def test_a_file_replaced_by_one_of_the_same_size_is_packed_as_it_is_now(
    tree, tmp_path, monkeypatch, ground_truth, change, killed_at, in_archives
):
    def sources():
        if not in_archives:
            return tree
        folder = tmp_path / "archives"
        folder.mkdir(exist_ok=True)
        write_archive(folder / "all.zip", tree, sorted(tree.rglob("*")))
        return folder

    plan = make_plan(sources(), ground_truth)
    with monkeypatch.context() as patch:
        if killed_at:  # with all images stored, and no shard complete

            def stop(*arguments):
                raise Killed

            patch.setattr(PackingFolder, killed_at, stop)
            with pytest.raises(Killed):
                pack_shards(plan, tmp_path / "out")
        else:
            pack_shards(plan, tmp_path / "out")
    replace(*change(tree))
    plan = make_plan(sources(), ground_truth)
    assert pack(plan, tmp_path / "out") == pack(plan, tmp_path / "expected")


@pytest.mark.parametrize(("ground_truth", "change"), CHANGES)
def test_shards_of_a_file_that_has_changed_since_are_not_merged(
    tree, tmp_path, ground_truth, change
):
    plan = make_plan(tree, ground_truth)
    for task in (0, 1):
        pack_shards(plan, tmp_path / "out", task_index=task, num_tasks=2)
    path, content = change(tree)
    replace(path, content)
    words = rf"of 3 shards show files that have changed since: .* of task .*{path.name}; run"
    with pytest.raises(ShardError, match=words):
        merge_shards(plan, tmp_path / "out", num_tasks=2)
    assert not list((tmp_path / "out").glob("[!.]*"))
    for task in (1, 0):
        pack_shards(plan, tmp_path / "out", task_index=task, num_tasks=2)
    merge_shards(plan, tmp_path / "out", num_tasks=2)
    assert bytes_of(tmp_path / "out") == pack(plan, tmp_path / "expected")


def test_tasks_that_read_different_files_are_not_merged(tree, tmp_path):
    plan = make_plan(tree)
    pack_shards(plan, tmp_path / "out", task_index=0, num_tasks=2)
    replace(*other_calibration(tree))
    pack_shards(plan, tmp_path / "out", task_index=1, num_tasks=2)
    words = r"2 of 3 shards .* changed since: 0, 2 of task 0; .*calib_cam_to_cam\.txt; run"
    with pytest.raises(ShardError, match=words):
        merge_shards(plan, tmp_path / "out", num_tasks=2)


def test_files_with_other_times_but_the_same_content_are_not_encoded_again(
    tree, tmp_path, monkeypatch
):
    pack_shards(make_plan(tree), tmp_path / "out", task_index=0, num_tasks=2)
    shutil.copytree(tree, tmp_path / "copy", copy_function=shutil.copyfile)
    decoded = []

    def decode(content, name, original=image_store.decode_frame):
        decoded.append(name)
        return original(content, name)

    monkeypatch.setattr(image_store, "decode_frame", decode)
    progress = pack_shards(make_plan(tmp_path / "copy"), tmp_path / "out", num_tasks=2)
    assert (progress.num_kept, decoded) == (2, [])


def test_a_repaired_file_is_included_in_an_unfinished_packing(tree, tmp_path):
    path = image_path(tree, DRIVE, 3, "l")
    content = path.read_bytes()
    whole = pack(make_plan(tree), tmp_path / "whole")
    path.write_bytes(content[:500])
    pack_shards(make_plan(tree, skip_bad=True), tmp_path / "out")
    with pytest.raises(KittiDataError, match="--skip-bad"):  # the skipped sample is still missing
        pack_shards(make_plan(tree), tmp_path / "out")
    path.write_bytes(content)
    assert pack(make_plan(tree), tmp_path / "out") == whole
