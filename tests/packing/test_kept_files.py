"""Packing deletes and replaces what a packing made, and nothing of its user's."""

import dataclasses
import os
import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest
from helpers.kitti_tree import DRIVE, image_path, write_kitti_tree
from helpers.packing_command import finished_names, pack_plan

from md2dist.data.inspection.verification import verify_shards
from md2dist.data.kitti.source import KittiSource
from md2dist.data.kitti.splits import SplitLine
from md2dist.data.kitti.tree import SourceTree
from md2dist.data.packing.finished import find_finished
from md2dist.data.packing.folder import PackingFolder
from md2dist.data.packing.merge import merge_shards
from md2dist.data.packing.plan import plan_samples
from md2dist.data.packing.working_names import (
    FINISHED_NAME,
    LOCK_NAME,
    PACKED_NAME,
    PACKING_NAME,
    SKIPPED_NAME,
)
from md2dist.data.packing.writer import pack_shards
from md2dist.data.shards.manifest import MANIFEST_NAME
from md2dist.data.shards.recipe import Recipe
from md2dist.errors import ShardError

RECIPE = Recipe("small", 32, 64, (), use_stereo=False, samples_per_shard=1)
SHARDS = [f"shard-{number:06d}.tar" for number in range(4)]
USERS_NAMES = [
    "notes.txt",
    ".notes",
    "shard-000000.tar.bak",
    "shard-0.tar",
    "shard-x.tar",
    "shard-000009.tar",  # no manifest lists it
    "shards-old/shard-000000.tar",
    "shards-old/index.json",
    "images/0123456789abcdef",
    ".packing.old/plan.json",
    ".index.json",
]


@pytest.fixture
def elsewhere(tmp_path):
    """A folder of the user's, to which links point."""
    folder = tmp_path / "elsewhere"
    write(folder, ["index.json", "plan.json", "shard-000000.tar", "lock", "0123456789abcdef/x"])
    return folder


@pytest.fixture
def plan(tmp_path):
    write_kitti_tree(tmp_path / "kitti")
    lines = [SplitLine(DRIVE, frame, "l") for frame in range(4)]
    return plan_samples(KittiSource(SourceTree(tmp_path / "kitti")), lines, RECIPE, skip_bad=True)


@pytest.fixture
def other(plan):
    """A packing of fewer shards."""
    return plan._replace(recipe=dataclasses.replace(RECIPE, samples_per_shard=2))


def write(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"the user's {name}")


def contents(folder, names=None):
    """Returns the contents of files, and where links point."""
    paths = folder.rglob("*") if names is None else map(folder.joinpath, names)
    return {
        path.relative_to(folder): path.readlink() if path.is_symlink() else path.read_bytes()
        for path in paths
        if path.is_symlink() or not path.is_dir()
    }


def stop_merge(plan, output, step, **options):
    """Merges up to a step of the working folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PackingFolder, step, Mock(side_effect=InterruptedError))
        with pytest.raises(ShardError):
            merge_shards(plan, output, **options)


def stop_before_removal(plan, output, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("md2dist.data.packing.merge.clear_packed", lambda output: None)
        pack_shards(plan, output, **options)
        merge_shards(plan, output, **options)
    assert (output / PACKED_NAME).is_dir()


def test_overwriting_leaves_the_users_files_and_links(plan, other, tmp_path, elsewhere):
    output = tmp_path / "out"
    pack_plan(plan, output)
    write(output, USERS_NAMES)
    (output / "folder").symlink_to(elsewhere)
    (output / "shard-000008.tar").symlink_to(elsewhere / "shard-000000.tar")
    names = [*USERS_NAMES, "folder", "shard-000008.tar"]
    before = contents(output, names), contents(elsewhere)
    pack_plan(other, output, overwrite=True)
    assert (contents(output, names), contents(elsewhere)) == before
    assert not {SHARDS[2], SHARDS[3]} & finished_names(output)
    found = {fault.place for fault in verify_shards(output).faults}  # they are in no manifest
    assert found == {path.name for path in output.glob("*.tar")} - set(SHARDS[:2])


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["file", "link", "folder"])
@pytest.mark.parametrize("name", [MANIFEST_NAME, SHARDS[1], SKIPPED_NAME, FINISHED_NAME])
def test_what_has_the_name_of_a_result_is_refused_or_kept_under_another(
    plan, tmp_path, elsewhere, caplog, name, kind, overwrite
):
    image = image_path(tmp_path / "kitti", DRIVE, 0, "l")
    image.write_bytes(image.read_bytes()[:200])  # so that a list of skipped samples is written
    output = tmp_path / "out"
    output.mkdir()
    if kind == "link":
        (output / name).symlink_to(elsewhere / "index.json")
    else:
        write(output, [name if kind == "file" else f"{name}/x"])
    before = contents(elsewhere), contents(output)
    if not overwrite and name in (MANIFEST_NAME, SHARDS[1]):
        with pytest.raises(ShardError, match=r"already holds shards; .*--overwrite"):
            pack_plan(plan, output)
        assert (contents(elsewhere), contents(output)) == before
        return
    pack_plan(plan, output, overwrite=overwrite)
    assert verify_shards(output).faults == []
    kept = output / f"{name}.before-1"
    assert (kept.is_symlink(), kept.is_dir()) == (kind == "link", kind == "folder")
    assert set(contents(output).values()) >= set(before[1].values())
    assert contents(elsewhere) == before[0]
    assert f"no packing made 1 files; kept as {kept.name}" in caplog.text


@pytest.mark.parametrize("name", [SHARDS[0], SHARDS[3]])  # which the other has, and has not
def test_a_shard_that_the_user_moved_and_linked_stays(plan, other, tmp_path, elsewhere, name):
    output = tmp_path / "out"
    pack_plan(plan, output)
    (output / name).rename(elsewhere / name)
    (output / name).symlink_to(elsewhere / name)
    before = contents(elsewhere)
    pack_plan(other, output, overwrite=True)
    assert elsewhere / name in contents(output).values()
    assert contents(elsewhere) == before


def test_a_damaged_data_set_is_set_aside_not_deleted(plan, other, tmp_path):
    output = tmp_path / "out"
    pack_plan(plan, output)
    shards = contents(output, SHARDS)
    (output / MANIFEST_NAME).write_text("{")
    pack_plan(other, output, overwrite=True)
    assert set(contents(output).values()) >= {b"{", *shards.values()}


@pytest.mark.parametrize("version", [1, 99])
def test_shards_of_another_format_version_are_replaced(plan, other, tmp_path, version):
    output = tmp_path / "out"
    pack_plan(plan, output)
    path = output / MANIFEST_NAME
    path.write_text(path.read_text().replace('"format_version":2', f'"format_version":{version}'))
    pack_plan(other, output, overwrite=True)
    assert finished_names(output) == {MANIFEST_NAME, *SHARDS[:2]}


@pytest.mark.parametrize("step", ["finish", "removal", "none"])
def test_the_working_folder_is_removed_but_for_the_users_files(
    plan, tmp_path, elsewhere, caplog, step
):
    output = tmp_path / "out"
    pack_shards(plan, output)
    (folder,) = (path for path in (output / PACKING_NAME).iterdir() if path.is_dir())
    names = ["notes.txt", "images/x.png", "old/plan.json", "000000.tar.bak", "x/000000.tar"]
    write(folder, names)
    write(output / PACKING_NAME, ["notes.txt", "0123456789abcdef/plan.json", "abc/plan.json"])
    for place in (folder, folder / "images", output / PACKING_NAME):
        (place / "link").symlink_to(elsewhere)
        (place / "fedcba9876543210").symlink_to(elsewhere)
    (folder / "000099.tar").symlink_to(elsewhere / "shard-000000.tar")
    before = contents(elsewhere)
    if step == "finish":
        stop_merge(plan, output, "finish")
    elif step == "removal":
        stop_before_removal(plan, output)
    pack_plan(plan, output)
    kept = output / PACKING_NAME
    assert {path.name for path in kept.rglob("*") if not path.is_dir()} == {
        "notes.txt", "x.png", "plan.json", "000000.tar.bak", "000000.tar", "000099.tar"
    }  # fmt: skip
    assert len(list(kept.rglob("link"))) == len(list(kept.rglob("fedcba9876543210"))) == 3
    assert contents(elsewhere) == before
    assert f"{kept} holds files that no packing made; they are kept" in caplog.text
    assert verify_shards(output).faults == []
    assert not (output / PACKED_NAME).exists()


def test_an_unfinished_packing_is_discarded_but_for_the_users_files(plan, other, tmp_path):
    output = tmp_path / "out"
    pack_shards(plan, output)
    (folder,) = (path for path in (output / PACKING_NAME).iterdir() if path.is_dir())
    write(folder, ["notes.txt"])
    pack_plan(other, output, overwrite=True)
    assert list(contents(output / PACKING_NAME)) == [Path(folder.name, "notes.txt")]


@pytest.mark.parametrize("kind", ["file", "link", "folder", "forged"])
def test_the_final_name_of_the_working_folder_may_be_taken(plan, tmp_path, elsewhere, kind):
    output = tmp_path / "out"
    output.mkdir()
    if kind == "link":
        (output / PACKED_NAME).symlink_to(elsewhere)
    else:
        inside = {"folder": "/index.json", "forged": "/0123456789abcdef/index.json", "file": ""}
        write(output, [PACKED_NAME + inside[kind]])
    before = contents(elsewhere), list(contents(output).values())
    assert find_finished(plan, output) is None
    pack_plan(plan, output)
    aside = output / f"{PACKED_NAME}.before-1"
    assert os.path.lexists(aside)
    assert before[1][0] in contents(output).values()
    assert contents(elsewhere) == before[0]
    assert verify_shards(output).faults == []


@pytest.mark.parametrize("place", [PACKING_NAME, "plan", "images", LOCK_NAME])
def test_a_link_in_place_of_the_working_folder_is_refused(plan, tmp_path, elsewhere, place):
    output = tmp_path / "out"
    pack_shards(plan, output)
    working = output / PACKING_NAME
    (folder,) = (path for path in working.iterdir() if path.is_dir())
    path = {"plan": folder, "images": folder / "images"}.get(place, working)
    path = working / LOCK_NAME if place == LOCK_NAME else path
    path.rename(tmp_path / "moved")
    path.symlink_to(elsewhere / "new" if place == LOCK_NAME else elsewhere)
    before = contents(elsewhere)
    words = "symbolic links" if place == LOCK_NAME else "is a link, expected a folder; remove the l"
    for attempt in (pack_shards, merge_shards):
        for overwrite in (False, True):
            with pytest.raises(ShardError, match=words):
                attempt(plan, output, overwrite=overwrite)
    assert contents(elsewhere) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_publication_that_was_stopped_is_completed_among_the_users_files(
    plan, other, tmp_path, overwrite
):
    output = tmp_path / "out"
    if overwrite:
        pack_plan(plan, output)
    names = [name for name in USERS_NAMES if overwrite or name != "shard-000009.tar"]
    write(output, names)
    before = contents(output, names)
    pack_shards(other, output, overwrite=overwrite)
    stop_merge(other, output, "finish", overwrite=overwrite)
    assert not (output / MANIFEST_NAME).exists()
    pack_plan(other, output, overwrite=overwrite)
    assert contents(output, names) == before
    expected = {MANIFEST_NAME, *SHARDS[:2], *(name.split("/")[0] for name in names)}
    assert finished_names(output) == {name for name in expected if name[0] != "."}


def test_shards_of_a_merge_that_was_stopped_and_abandoned_are_replaced(plan, other, tmp_path):
    output = tmp_path / "out"
    pack_shards(plan, output)
    stop_merge(plan, output, "finish")
    assert finished_names(output) == set(SHARDS)
    pack_plan(other, output, overwrite=True)
    assert finished_names(output) == {MANIFEST_NAME, *SHARDS[:2]}
    assert not (output / PACKING_NAME).exists()


def test_what_a_killed_packing_left_half_written_is_removed(plan, tmp_path):
    output = tmp_path / "out"
    pack_shards(plan, output)
    working = output / PACKING_NAME
    (folder,) = (path for path in working.iterdir() if path.is_dir())
    for name in (".000001.tar.0123abcd", "images/.0123456789abcdef.0123abcd"):
        shutil.copy(folder / "000001.tar", folder / name)
    (working / "0123456789abcdef").mkdir()
    (working / "0123456789abcdef" / ".plan.json.0123abcd").write_text("{")
    pack_plan(plan, output)
    assert {path.name for path in output.glob(".*")} == {FINISHED_NAME}
