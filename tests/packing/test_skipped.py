"""Skipped samples: one line per drive for people, one per sample in a file."""

import json
import shutil
import sys

import pytest
from helpers.kitti_tree import DATE, DRIVE, image_path, write_kitti_tree
from helpers.packing_command import bytes_of, request, skipped_in

from md2dist.commands import pack
from md2dist.data.inspection.data_card import describe_shards
from md2dist.data.inspection.verification import verify_shards
from md2dist.data.packing.working_names import SKIPPED_NAME
from md2dist.data.shards.manifest import MANIFEST_NAME, read_manifest
from md2dist.errors import ShardError

MISSING = [f"{DATE}/{DATE}_drive_{number:04d}_sync" for number in (1, 2)]
NUM_MISSING = 3000


@pytest.fixture
def folder(tmp_path):
    """Two drives that are not there, and one with a damaged image."""
    lines = [f"{drive} {i} l" for drive in MISSING for i in range(NUM_MISSING)]
    lines += write_kitti_tree(tmp_path / "kitti", num_frames=6)
    (tmp_path / "split.txt").write_text("\n".join(lines))
    path = image_path(tmp_path / "kitti", DRIVE, 4, "r")
    path.write_bytes(path.read_bytes()[:200])
    return tmp_path


@pytest.fixture
def command(folder, monkeypatch, capsys):
    """Runs the packing command; returns the lines that it prints."""

    def run(*options):
        words = request(folder, "--samples-per-shard", 2, "--skip-bad", *options)
        monkeypatch.setattr(sys, "argv", ["make_shards.py", *map(str, words)])
        pack.main()
        return capsys.readouterr().out.splitlines()

    return run


def test_each_drive_has_one_line_and_each_sample_one_in_a_file(folder, command):
    *lines, last = (line for line in command() if "skipped" in line)
    out = folder / "out"
    assert lines == [
        *(
            f"skipped {drive}: 3,000 samples, the first: no folder {drive}/image_02/data; download "
            f"the drive {drive}"
            for drive in MISSING
        ),
        f"skipped {DRIVE}: 3 samples, the first: image {DRIVE}/image_03/data/0000000004.png is "
        "broken (image file is truncated); extract or download it again",
    ]
    assert last.endswith(f"6003 skipped (listed in {out / SKIPPED_NAME})")
    assert (out / MANIFEST_NAME).stat().st_size < 10_000
    manifest = read_manifest(out)
    assert [(drive.name, drive.count) for drive in manifest.skipped] == [
        *((drive, NUM_MISSING) for drive in MISSING),
        (DRIVE, 3),
    ]
    objects = [json.loads(line) for line in (out / SKIPPED_NAME).read_text().splitlines()]
    assert len(objects) == manifest.num_skipped == 2 * NUM_MISSING + 3
    first = {"drive": MISSING[0], "frame": 0, "side": "l"}
    assert objects[0] == first | {"reason": manifest.skipped[0].reason}
    damaged = {f"{DRIVE} {frame} {side}" for frame, side in ((3, "r"), (4, "r"), (4, "l"))}
    assert set(list(skipped_in(out))[-3:]) == damaged
    assert "6,003 skipped" in describe_shards(out)
    assert verify_shards(out).faults == []


def test_tasks_and_resumed_packings_list_the_same_samples(folder, command):
    command()
    expected = bytes_of(folder / "out")
    assert SKIPPED_NAME in expected
    shutil.rmtree(folder / "out")
    for index in (1, 0, 1):
        command("--num-tasks", 2, "--task-index", index)
    assert "6003 skipped" in command("--num-tasks", 2, "--merge")[-2]
    assert bytes_of(folder / "out") == expected


def test_the_same_command_after_success_counts_the_skipped_samples(folder, command):
    command()
    before = bytes_of(folder / "out")
    assert command()[-1].endswith(" shards, 6003 skipped")
    (folder / "out" / SKIPPED_NAME).unlink()  # the data set is complete without it
    assert command()[-1].endswith(" shards, 6003 skipped")
    del before[SKIPPED_NAME]
    assert bytes_of(folder / "out") == before


def test_a_packing_that_skips_nothing_leaves_no_list_of_an_earlier_one(folder, command):
    command()
    lines = (folder / "split.txt").read_text().splitlines()
    (folder / "split.txt").write_text(lines[-8])
    command("--overwrite")
    assert sorted(bytes_of(folder / "out")) == [MANIFEST_NAME, "shard-000000.tar"]
    assert read_manifest(folder / "out").num_skipped == 0


def test_manifests_that_list_each_sample_are_still_read(folder, command):
    command()
    path = folder / "out" / MANIFEST_NAME
    stored = json.loads(path.read_text())
    del stored["skipped_counts"]
    stored["skipped"] = [[f"{MISSING[0]} {i} l", "no folder"] for i in range(5)]
    path.write_text(json.dumps(stored))
    assert read_manifest(folder / "out").num_skipped == 5
    assert "5 skipped" in describe_shards(folder / "out")


@pytest.mark.parametrize("counts", [[1, 2], [1, 2, 0], [1, 2, "x"], 3, [1, 2, 3, 4]])
def test_wrong_counts_are_damage(folder, command, counts):
    command()
    path = folder / "out" / MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | {"skipped_counts": counts}))
    with pytest.raises(ShardError, match=r"is damaged .*skipped_counts"):
        read_manifest(folder / "out")
