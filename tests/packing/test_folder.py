"""Concurrent and stopped processes in the working folder of one packing."""

import dataclasses
import errno
import fcntl
import os
from unittest.mock import Mock

import pytest
from helpers.kitti_tree import DRIVE, write_kitti_tree
from helpers.packing_command import bytes_of

from md2dist.data.kitti.source import KittiSource
from md2dist.data.kitti.splits import SplitLine
from md2dist.data.kitti.tree import SourceTree
from md2dist.data.packing import writer as shard_writer
from md2dist.data.packing.folder import PACKING_NAME, PackingFolder
from md2dist.data.packing.merge import merge_shards
from md2dist.data.packing.plan import check_output, plan_samples
from md2dist.data.packing.writer import pack_shards
from md2dist.data.shards.manifest import MANIFEST_NAME
from md2dist.data.shards.recipe import Recipe
from md2dist.errors import ConfigError, ShardError

RECIPE = Recipe("small", 32, 64, (), use_stereo=False, samples_per_shard=2)
BUSY = "another process is packing or merging the shards of .*; wait for it"


@pytest.fixture
def plan(tmp_path):
    write_kitti_tree(tmp_path / "kitti")
    lines = [SplitLine(DRIVE, frame, "l") for frame in range(4)]
    return plan_samples(KittiSource(SourceTree(tmp_path / "kitti")), lines, RECIPE)


@pytest.fixture
def expected(plan, tmp_path):
    return pack(plan, tmp_path / "expected")


def pack(plan, output):
    pack_shards(plan, output, overwrite=True)
    merge_shards(plan, output, overwrite=True)
    return bytes_of(output)


def interrupt(monkeypatch, module, name, action):
    """Runs an action right before the first call of a function."""
    original = getattr(module, name)

    def interrupted(*arguments, **options):
        monkeypatch.setattr(module, name, original)
        action()
        return original(*arguments, **options)

    monkeypatch.setattr(module, name, interrupted)


def refuse(function, *arguments):
    with pytest.raises(ShardError, match=BUSY):
        function(*arguments)


def test_packing_while_another_process_merges_is_refused_and_harmless(
    plan, expected, tmp_path, monkeypatch
):
    output = tmp_path / "out"
    pack_shards(plan, output)

    def come():
        refuse(merge_shards, plan, output)
        refuse(pack_shards, plan, output)

    interrupt(monkeypatch, PackingFolder, "finish", come)
    merge_shards(plan, output)
    assert bytes_of(output) == expected


def test_packing_right_after_another_process_merged_is_refused_and_harmless(
    plan, expected, tmp_path, monkeypatch
):
    output = tmp_path / "out"
    pack_shards(plan, output)
    # The second has opened the lock already, and gets it when the first is done.
    interrupt(monkeypatch, fcntl, "flock", lambda: merge_shards(plan, output))
    refuse(merge_shards, plan, output)
    assert bytes_of(output) == expected


def test_many_tasks_pack_at_once_and_none_merges_meanwhile(plan, expected, tmp_path, monkeypatch):
    output = tmp_path / "out"

    def come():
        pack_shards(plan, output, task_index=1, num_tasks=2)
        refuse(merge_shards, plan, output)

    interrupt(monkeypatch, shard_writer, "store_images", come)
    assert pack_shards(plan, output, task_index=0, num_tasks=2).num_shards == 1
    merge_shards(plan, output)
    assert bytes_of(output) == expected


def test_a_file_system_without_locks_works_too(plan, expected, tmp_path, monkeypatch):
    no_locks = OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=no_locks))
    assert pack(plan, tmp_path / "out") == expected


@pytest.mark.parametrize(
    "place", ["s3://bucket/x", "http://host/x", "gs://bucket/x", "pipe:cat {}"]
)
def test_packing_into_a_url_is_refused(place):
    check_output("out")
    with pytest.raises(ConfigError, match=rf"--output {place}: .*copy it .*with index\.json"):
        check_output(place)


def test_an_abandoned_merge_does_not_name_the_shards_of_another(plan, expected, tmp_path):
    other = plan._replace(recipe=dataclasses.replace(RECIPE, seed=1))
    plans = [(plan, expected), (other, pack(other, tmp_path / "other"))]
    for first, (last, result) in (plans[0][0], plans[1]), (plans[1][0], plans[0]):
        output = tmp_path / f"seed {last.recipe.seed}"
        pack_shards(first, output)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PackingFolder, "finish", Mock(side_effect=InterruptedError))
            with pytest.raises(ShardError):
                merge_shards(first, output)
        assert list(output.glob(f"{PACKING_NAME}/*/{MANIFEST_NAME}"))
        assert pack(last, output) == result


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"[" * 20_000, b"\xff", b'{"entry": {}, "skipped": [], "sources": 3}']
)
@pytest.mark.parametrize("names", ["0*.json", "images/*.json"])
def test_work_whose_record_is_damaged_is_done_again(
    plan, expected, tmp_path, caplog, content, names
):
    output = tmp_path / "out"
    pack_shards(plan, output)
    (folder,) = (output / PACKING_NAME).glob("*/")
    for path in folder.glob(names):
        path.write_bytes(content)
    if names != "0*.json":  # they are read for the shards that are missing
        for path in folder.glob("0*.json"):
            path.unlink()
    pack_shards(plan, output)
    merge_shards(plan, output)
    assert bytes_of(output) == expected
    assert ".json is damaged: " in caplog.text
