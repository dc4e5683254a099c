"""Faults across shards, verification of whole folders, and the command."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.damaged_shards import (
    KEYS,
    NAME,
    change_description,
    change_member,
    found,
    read_members,
    write_members,
)
from helpers.kitti_tree import write_kitti_tree
from helpers.small_shards import write_small_shards

from md2dist.data.inspection.verification import verify_shards
from md2dist.data.shards.manifest import read_manifest, write_manifest
from md2dist.errors import ConfigError, ShardError

TOOLS = Path(__file__).parents[2] / "shard_tools"


@pytest.fixture
def folder(tmp_path):
    """Three shards of 4, 4 and 2 samples."""
    return write_small_shards(tmp_path / "shards", ground_truth="velodyne")


@pytest.mark.parametrize("decode", ["all", "sample", "none"])
def test_healthy_shards_have_no_fault(folder, decode):
    report = verify_shards(folder, decode=decode)
    assert report.faults == []
    assert report.num_found == 10


@pytest.mark.parametrize("image_format", ["jpg", "webp"])
def test_other_image_formats_and_few_views_are_healthy_too(tmp_path, image_format):
    write_small_shards(tmp_path, image_format=image_format, frame_offsets=(), use_stereo=False)
    assert found(tmp_path) == []


def test_a_missing_shard_and_an_unlisted_one_are_found(folder):
    (folder / NAME).rename(folder / "shard-000009.tar")
    missing, unlisted = found(folder)
    assert missing == f"{NAME}: cannot be read (No such file or directory)"
    assert unlisted.startswith("shard-000009.tar: is not in index.json")


def test_a_neighbour_taken_from_another_frame_is_found(folder):
    members = dict(read_members(folder / NAME))
    change_member(folder, KEYS[5], "+1.png", lambda content: members[f"{KEYS[5]}.-1.png"])
    (fault,) = found(folder)
    image = "2011_09_26/2011_09_26_drive_0001_sync 6 r"
    assert fault.startswith(f"{NAME}, {KEYS[5]}: shows another image of {image} than ")


def test_a_sample_packed_twice_is_found(folder):
    first = read_members(folder / "shard-000000.tar")
    write_members(folder / NAME, [*read_members(folder / NAME), *first[:6]])
    assert found(folder) == [f"{NAME}, {KEYS[0]}: is also in shard-000000.tar"]


def test_frames_that_evaluation_shares_with_training_in_any_view_are_found(folder, tmp_path):
    one_view = {"frame_offsets": (), "use_stereo": False}
    evaluation = write_small_shards(tmp_path / "evaluation", 13, **one_view)
    (leak,) = found(folder, against=evaluation)
    # Frames 0 to 9 are targets of training, frame 10 is the neighbour of the last.
    assert leak == (
        "2011_09_26/2011_09_26_drive_0001_sync: the evaluation shards show 11 of its frames: 0-10"
    )


def test_other_frames_of_a_drive_are_no_leak(folder, tmp_path):
    write_small_shards(tmp_path, 13, samples_per_shard=1, frame_offsets=(), use_stereo=False)
    manifest = read_manifest(tmp_path)
    for entry in manifest.shards[:11]:
        (tmp_path / entry.name).unlink()
    write_manifest(replace(manifest, shards=manifest.shards[11:]), tmp_path)
    assert found(folder, against=tmp_path) == []


def test_gaps_are_reported_but_are_no_fault(folder):
    members = [m for m in read_members(folder / NAME) if not m[0].startswith((KEYS[5], KEYS[6]))]
    write_members(folder / NAME, members)
    report = verify_shards(folder)
    assert report.faults == []
    assert report.gaps == {"2011_09_26/2011_09_26_drive_0001_sync": [2]}


def test_every_fault_of_a_folder_is_listed_not_only_the_first(folder):
    change_description(folder, KEYS[5], baseline=99.0)
    change_member(folder, KEYS[7], "0.png", lambda content: content[:-3000])
    (folder / "shard-000002.tar").unlink()
    (folder / "shard-000000.tar").write_bytes(b"")
    text = "\n".join(found(folder))
    for words in (
        "shard-000000.tar: has 0 bytes",
        "baseline of 99 m",
        "0.png cannot be decoded",
        "shard-000002.tar: cannot be read",
    ):
        assert words in text


@pytest.mark.slow
def test_two_processes_find_what_one_finds(folder):
    change_description(folder, KEYS[5], baseline=99.0)
    (folder / "shard-000002.tar").unlink()
    assert found(folder, processes=2) == found(folder)


def test_a_negative_seed_is_an_error(folder):
    with pytest.raises(ConfigError, match="--seed -1: expected >= 0"):
        verify_shards(folder, seed=-1)


def test_evaluation_shards_that_cannot_be_read_are_an_error(folder, tmp_path):
    write_small_shards(tmp_path / "evaluation", 1)
    (tmp_path / "evaluation" / "shard-000000.tar").unlink()
    with pytest.raises(ShardError, match=r"evaluation/shard-000000\.tar is missing or damaged"):
        verify_shards(folder, against=tmp_path / "evaluation")


def run(script, *options):
    command = [sys.executable, str(TOOLS / script), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_newly_packed_shards_are_healthy(tmp_path):
    lines = write_kitti_tree(tmp_path / "kitti", num_frames=6)
    (tmp_path / "split.txt").write_text("\n".join(lines))
    packed = run(
        "make_shards.py",
        "--kitti-root", tmp_path / "kitti", "--split", tmp_path / "split.txt",
        "--output", tmp_path / "out", "--height", 32, "--width", 96, "--samples-per-shard", 3,
    )  # fmt: skip
    assert packed.returncode == 0, packed.stderr
    done = run("verify_shards.py", tmp_path / "out")
    assert done.returncode == 0, done.stdout
    assert f"{len(lines)} of {len(lines)} samples found" in done.stdout


@pytest.mark.slow
def test_exit_code_0_means_no_fault(folder):
    done = run("verify_shards.py", folder)
    assert done.returncode == 0, done.stderr
    assert "10 of 10 samples found in 3 shards, 0 faults" in done.stdout


@pytest.mark.slow
def test_exit_code_1_comes_with_a_list_of_faults(folder):
    (folder / "shard-000002.tar").unlink()
    change_description(folder, KEYS[5], baseline=99.0)
    done = run("verify_shards.py", folder, "--decode", "sample", "--processes", 2)
    assert done.returncode == 1
    baseline, missing, summary, *_ = done.stdout.splitlines()
    assert "baseline of 99 m" in baseline
    assert missing.startswith("shard-000002.tar: cannot be read")
    assert summary.endswith("8 of 10 samples found in 3 shards, 2 faults")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_exit_code_2_means_that_there_is_no_usable_manifest(folder):
    manifest = json.loads((folder / "index.json").read_text())
    manifest["shards"][1]["count"] += 1
    (folder / "index.json").write_text(json.dumps(manifest))
    done = run("verify_shards.py", folder)
    assert done.returncode == 2
    assert "error: " in done.stderr
    assert "has 5 samples" in done.stderr
    assert "Traceback" not in done.stderr
