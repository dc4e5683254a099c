import dataclasses
import hashlib
import itertools
import os
import shutil
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
from helpers.kitti_tree import DRIVE, image_path, write_kitti_tree
from helpers.packing_command import bytes_of

from md2dist.data.kitti.source import KittiSource
from md2dist.data.kitti.splits import SplitLine
from md2dist.data.kitti.tree import SourceTree
from md2dist.data.packing import image_store
from md2dist.data.packing import writer as shard_writer
from md2dist.data.packing.folder import PACKING_NAME, PackingFolder
from md2dist.data.packing.merge import merge_shards
from md2dist.data.packing.plan import plan_samples
from md2dist.data.packing.writer import pack_shards
from md2dist.data.shards.manifest import MANIFEST_NAME, read_manifest
from md2dist.data.shards.recipe import Recipe
from md2dist.errors import ConfigError, ShardError

RECIPE = Recipe("small", 32, 64, (-1, 1), use_stereo=True, samples_per_shard=5)
LINES = [SplitLine(DRIVE, frame, side) for side in "lr" for frame in range(1, 7)]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    write_kitti_tree(tmp_path / "kitti", num_frames=8)
    monkeypatch.setattr(image_store, "_IMAGES_PER_FILE", 6)  # several files even here
    return tmp_path / "kitti"


def make_plan(tree, recipe=RECIPE, *, lines=LINES, skip_bad=False):
    return plan_samples(KittiSource(SourceTree(tree)), lines, recipe, skip_bad=skip_bad)


def pack(plan, output, **options):
    progress = pack_shards(plan, output, **options)
    merge_shards(plan, output)
    return progress


def count_calls(monkeypatch, module, name):
    calls, original = [], getattr(module, name)

    def counted(*arguments):
        calls.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(module, name, counted)
    return calls


@pytest.mark.parametrize("num_tasks", [2, 3, 5])
def test_any_number_of_tasks_in_any_order_gives_the_same_bytes(tree, tmp_path, num_tasks):
    plan = make_plan(tree)
    pack(plan, tmp_path / "one")
    for task in reversed(range(num_tasks)):
        pack_shards(plan, tmp_path / "many", task_index=task, num_tasks=num_tasks)
        assert [path.name for path in (tmp_path / "many").iterdir()] == [PACKING_NAME]
    merge_shards(plan, tmp_path / "many", num_tasks=num_tasks)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "many")


def check_manifest(folder):
    """Checks that the manifest, if there is one, matches the shards."""
    if (folder / MANIFEST_NAME).exists():
        for shard in read_manifest(folder).shards:
            content = (folder / shard.name).read_bytes()
            assert hashlib.sha256(content).hexdigest() == shard.sha256


class Killed(BaseException):
    """Simulated end of the process; no handler of the package catches it."""


def stop_at(monkeypatch, moment):
    """Ends the process right before its n-th change of a name in the file system."""
    left = itertools.count(moment, -1)

    def stopping(original, *arguments, **options):
        if next(left) <= 0:
            raise Killed
        return original(*arguments, **options)

    for module, name in [(os, name) for name in ("replace", "rename", "unlink", "rmdir")]:
        monkeypatch.setattr(module, name, partial(stopping, getattr(module, name)))


@pytest.mark.parametrize("is_old", [False, True])
def test_stopped_at_any_moment_it_resumes_to_the_same_bytes(tree, tmp_path, monkeypatch, is_old):
    small = dataclasses.replace(RECIPE, use_stereo=False, samples_per_shard=2)
    plan = make_plan(tree, small, lines=LINES[:4])
    pack(plan, tmp_path / "expected")
    expected = bytes_of(tmp_path / "expected")
    pack(make_plan(tree, small, lines=LINES[5:8]), tmp_path / "old")
    output, moment, stopped = tmp_path / "out", 0, True
    while stopped:
        shutil.rmtree(output, ignore_errors=True)
        if is_old:
            shutil.copytree(tmp_path / "old", output)
        with monkeypatch.context() as patch:
            stop_at(patch, moment)
            try:
                pack_shards(plan, output, overwrite=is_old)
                merge_shards(plan, output, overwrite=is_old)
                stopped = False
            except Killed:
                pass
        check_manifest(output)
        is_merging = bool(list(output.glob(f"{PACKING_NAME}/*/{MANIFEST_NAME}")))
        is_merged = bool(list(output.glob(".packed"))) or not stopped
        if is_merging or is_merged:  # at most names are missing
            pack(plan, output)
        else:
            pack_shards(plan, output, overwrite=is_old)
            merge_shards(plan, output, overwrite=is_old)
        assert bytes_of(output) == expected, f"stopped at moment {moment}"
        moment += 1
    assert moment > 15


def test_complete_shards_and_images_are_kept_and_not_made_again(tree, tmp_path, monkeypatch):
    plan = make_plan(tree)
    decoded = count_calls(monkeypatch, image_store, "decode_frame")
    pack_shards(plan, tmp_path / "out", task_index=1, num_tasks=3)
    packed = count_calls(monkeypatch, shard_writer, "_pack_shard")
    progress = pack_shards(plan, tmp_path / "out")
    assert (progress.num_shards, progress.num_kept) == (3, 1)
    assert [job.number for (job,) in packed] == [0, 2]
    assert len(decoded) == len(set(decoded)) == 16
    assert 0 < progress.num_images < 16
    again = pack_shards(plan, tmp_path / "out")
    assert (again.num_kept, again.num_images, len(packed)) == (3, 0, 2)


def test_a_merge_names_the_shards_and_the_tasks_that_are_missing(tree, tmp_path):
    plan = make_plan(tree, dataclasses.replace(RECIPE, samples_per_shard=2))
    pack_shards(plan, tmp_path / "out", task_index=0, num_tasks=3)
    pack_shards(plan, tmp_path / "out", task_index=2, num_tasks=3)
    words = r"2 of 6 shards are not packed yet: 1, 4 of task 1; run the missing tasks again"
    with pytest.raises(ShardError, match=words):
        merge_shards(plan, tmp_path / "out", num_tasks=3)
    pack_shards(plan, tmp_path / "out", task_index=1, num_tasks=3)
    assert len(merge_shards(plan, tmp_path / "out", num_tasks=3).shards) == 6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"height": 64}, r"differs in height \(found 32, requested 64\)"),
        ({"seed": 1}, "samples, seed"),
        ({"order": "sequential"}, "order"),
    ],
)
def test_another_packing_in_the_same_folder_is_refused(tree, tmp_path, change, words):
    pack_shards(make_plan(tree), tmp_path / "out")
    other = make_plan(tree, dataclasses.replace(RECIPE, **change))
    for attempt in (pack_shards, merge_shards):
        with pytest.raises(ShardError, match=words):
            attempt(other, tmp_path / "out")
    pack_shards(other, tmp_path / "out", overwrite=True)
    merge_shards(other, tmp_path / "out", overwrite=True)
    pack(other, tmp_path / "expected")
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "expected")


def test_other_library_versions_are_another_packing(tree, tmp_path, monkeypatch):
    plan = make_plan(tree)
    pack_shards(plan, tmp_path / "out", task_index=0, num_tasks=2)
    versions = {"numpy": "0"}
    monkeypatch.setattr("md2dist.data.packing.plan.library_versions", lambda: versions)
    with pytest.raises(ShardError, match="differs in libraries"):
        pack_shards(plan, tmp_path / "out", task_index=1, num_tasks=2)


def test_a_shard_that_is_being_packed_again_is_not_merged(tree, tmp_path, monkeypatch):
    path = image_path(tree, DRIVE, 3, "l")
    content = path.read_bytes()
    path.write_bytes(content[:500])
    pack_shards(make_plan(tree, skip_bad=True), tmp_path / "out")
    path.write_bytes(content)
    monkeypatch.setattr(PackingFolder, "write_record", Mock(side_effect=Killed))
    with pytest.raises(Killed):
        pack_shards(make_plan(tree), tmp_path / "out")
    with pytest.raises(ShardError, match="1 of 3 shards are not packed yet: 0"):
        merge_shards(make_plan(tree), tmp_path / "out")


def test_a_task_that_does_not_exist_is_an_error(tree, tmp_path):
    for index, count in [(2, 2), (-1, 2), (0, 0)]:
        with pytest.raises(ConfigError, match=f"--task-index {index} --num-tasks {count}"):
            pack_shards(make_plan(tree), tmp_path / "out", task_index=index, num_tasks=count)
    for count in (0, -2):
        with pytest.raises(ConfigError, match=f"--num-tasks {count}"):
            merge_shards(make_plan(tree), tmp_path / "out", num_tasks=count)
    with pytest.raises(ConfigError, match="--processes 0: expected >= 1"):
        pack_shards(make_plan(tree), tmp_path / "out", num_processes=0)
    assert not (tmp_path / "out").exists()


def test_more_tasks_than_shards_leave_some_without_work(tree, tmp_path):
    plan = make_plan(tree, dataclasses.replace(RECIPE, samples_per_shard=100))
    assert pack_shards(plan, tmp_path / "out", task_index=1, num_tasks=2).num_shards == 0
    assert pack_shards(plan, tmp_path / "out", task_index=0, num_tasks=2).num_shards == 1
    merge_shards(plan, tmp_path / "out")
    assert Path(tmp_path / "out" / "shard-000000.tar").is_file()
