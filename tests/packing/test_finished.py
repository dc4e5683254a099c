"""The same packing command, given again after it has succeeded."""

import os
import shutil
import sys

import pytest
from helpers.kitti_tree import DRIVE, image_path, write_archives, write_kitti_tree
from helpers.packing_command import bytes_of, request

from md2dist.commands import pack
from md2dist.data.packing import image_store
from md2dist.data.packing.finished import FINISHED_NAME
from md2dist.data.packing.folder import PackingFolder
from md2dist.data.shards.manifest import MANIFEST_NAME
from md2dist.errors import ShardError


@pytest.fixture
def folder(tmp_path):
    lines = write_kitti_tree(tmp_path / "kitti")
    (tmp_path / "split.txt").write_text("\n".join(lines))
    return tmp_path


@pytest.fixture
def command(folder, monkeypatch, capsys):
    """Runs the packing command; returns the lines that it prints."""

    def run(*options, shards=1):
        words = request(folder, "--samples-per-shard", shards, *options)
        monkeypatch.setattr(sys, "argv", ["make_shards.py", *map(str, words)])
        pack.main()
        return capsys.readouterr().out.splitlines()

    return run


def is_told(lines, output, samples=4):
    _, line = lines  # the first names the split
    words = f"{output} holds this packing already, complete and unchanged: {samples} samples in"
    return line.startswith(words)


def test_the_same_command_after_success_succeeds_with_one_line(folder, command, monkeypatch):
    command()
    expected = bytes_of(folder / "out")
    monkeypatch.setattr(image_store, "decode_frame", None)  # nothing is packed again
    assert is_told(command(), folder / "out")
    assert is_told(command("--processes", 2), folder / "out")
    assert bytes_of(folder / "out") == expected


def test_every_task_and_the_merge_succeed_again(folder, command):
    tasks = [["--num-tasks", 2, "--task-index", index] for index in (0, 1)]
    for options in (*tasks, ["--num-tasks", 2, "--merge"]):
        command(*options)
    expected = bytes_of(folder / "out")
    for options in (*tasks, ["--num-tasks", 2, "--merge"], []):
        assert is_told(command(*options), folder / "out")
    assert bytes_of(folder / "out") == expected


def test_a_merge_that_was_stopped_before_its_last_step_counts_as_success(
    folder, command, monkeypatch
):
    command()
    expected = bytes_of(folder / "out")
    shutil.rmtree(folder / "out")
    with monkeypatch.context() as patch:
        patch.setattr("md2dist.data.packing.merge.clear_packed", lambda output: None)
        command()
    assert not (folder / "out" / MANIFEST_NAME).exists()
    assert is_told(command(), folder / "out")
    assert bytes_of(folder / "out") == expected


def test_a_publication_that_was_stopped_is_completed_and_then_counts_as_success(
    folder, command, monkeypatch
):
    with monkeypatch.context() as patch:

        def stop(self):
            raise KeyboardInterrupt

        patch.setattr(PackingFolder, "finish", stop)
        with pytest.raises(KeyboardInterrupt):
            command()
    assert len(command()) > 2
    assert is_told(command(), folder / "out")


@pytest.mark.parametrize("place", ["copy", "archives"])
def test_files_with_the_same_content_in_another_place_are_unchanged(folder, command, place):
    command()
    kitti = folder / "kitti"
    if place == "copy":
        shutil.copytree(kitti, folder / place, copy_function=shutil.copyfile)
    else:
        write_archives(kitti, folder / place)
    shutil.rmtree(kitti)
    (folder / place).rename(kitti)
    assert is_told(command(), folder / "out")


def change_frame(folder):
    path = image_path(folder / "kitti", DRIVE, 2, "r")
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def drop_a_line(folder):
    lines = (folder / "split.txt").read_text().splitlines()
    (folder / "split.txt").write_text("\n".join(lines[1:]))


def remove_a_shard(folder):
    (folder / "out" / "shard-000000.tar").unlink()


def shorten_a_shard(folder):
    os.truncate(folder / "out" / "shard-000000.tar", 1024)


def damage_the_record(folder):
    (folder / "out" / FINISHED_NAME).write_text("[" * 100_000)


def exchange_the_manifest(folder):
    path = folder / "out" / MANIFEST_NAME
    path.write_text(path.read_text().replace("small", "tiny ") + "\n")


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (change_frame, [], "holds these shards, but .* source files have changed"),
        (drop_a_line, [], "holds shards that differ in samples;"),
        (remove_a_shard, [], "holds these shards, but some are missing"),
        (shorten_a_shard, [], "holds these shards, but some are missing"),
        (damage_the_record, [], "holds shards;"),
        (exchange_the_manifest, [], "holds shards;"),
        (lambda folder: None, ["--height", 64], r"differ in height \(found 32, requested 64\);"),
        (lambda folder: None, ["--no-stereo"], "differ in use_stereo"),
    ],
)
def test_another_packing_or_other_files_are_refused(folder, command, change, options, words):
    command()
    change(folder)
    before = bytes_of(folder / "out")
    with pytest.raises(ShardError, match=rf"out already .*{words}.* pass --overwrite"):
        command(*options)
    assert bytes_of(folder / "out") == before


def test_a_packing_that_skipped_a_damaged_file_succeeds_again_until_it_is_repaired(folder, command):
    path = image_path(folder / "kitti", DRIVE, 0, "l")
    content = path.read_bytes()
    path.write_bytes(content[:500])
    command("--skip-bad")
    assert is_told(command("--skip-bad"), folder / "out", samples=3)
    with pytest.raises(ShardError, match=r"these shards, but .* were skipped"):
        command()
    path.write_bytes(content)
    with pytest.raises(ShardError, match=r"these shards, but .* have changed"):
        command("--skip-bad")


def test_overwriting_packs_again(folder, command):
    command()
    before = (folder / "out" / MANIFEST_NAME).stat()
    assert len(command("--overwrite")) > 2
    assert (folder / "out" / MANIFEST_NAME).stat().st_mtime_ns > before.st_mtime_ns
