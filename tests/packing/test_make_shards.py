import io
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.kitti_tree import DATE, DRIVE, image_path, write_archives, write_kitti_tree
from helpers.packing_command import finished_names, make_shards, request
from PIL import Image

from md2dist.config import load_config
from md2dist.data.kitti.splits import read_split
from md2dist.data.shards.manifest import MANIFEST_NAME, read_manifest
from md2dist.data.shards.tar_sample import sample_members


@pytest.fixture
def tree(tmp_path):
    lines = write_kitti_tree(tmp_path / "kitti", num_frames=4)
    (tmp_path / "split.txt").write_text("\n".join(lines))
    return tmp_path


def members_of(folder: Path, shard: int, sample: int):
    entry = read_manifest(folder).shards[shard]
    content = (folder / entry.name).read_bytes()
    return sample_members(content[entry.offsets[sample] : entry.offsets[sample + 1]])


@pytest.mark.slow
def test_real_frames_are_packed_according_to_the_recipe(kitti_raw, shared, tmp_path):
    lines = [
        str(line)
        for line in read_split(shared / "splits" / "eigen_zhou" / "train_files.txt")
        if "drive_0005" in line.drive
    ]
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "train_files.txt").write_text("\n".join(lines[:6]))
    done = make_shards(
        "--kitti-root", kitti_raw, "--split", "small/train", "--splits-dir", tmp_path,
        "--output", tmp_path / "out", "--samples-per-shard", 4, "--processes", 2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "6 samples in 2 shards" in done.stdout
    assert "next: deepspeed -q launch/train.py --config configs/mono_stereo.yaml" in done.stdout
    manifest = read_manifest(tmp_path / "out")
    assert manifest.recipe.split == "small/train"
    assert manifest.shard_sizes == [4, 2]
    assert manifest.drives == ("2011_09_26_drive_0005_sync",)
    members = members_of(tmp_path / "out", 1, 0)
    drive, side, frame = members["__key__"].rsplit("_", 2)
    native = Image.open(image_path(kitti_raw, f"{DATE}/{drive}", int(frame) + 1, side))
    expected = native.resize((640, 192), Image.Resampling.LANCZOS)
    packed = Image.open(io.BytesIO(members["+1.png"]))
    np.testing.assert_array_equal(np.asarray(packed), np.asarray(expected))


@pytest.mark.slow
def test_a_rule_selects_frames_and_reports_what_it_left_out(tree):
    records = tree / "kitti" / DRIVE / "oxts" / "data"
    records.mkdir(parents=True)
    for frame, speed in enumerate((5, 5, 0, 5)):
        (records / f"{frame:010d}.txt").write_text(f"0 0 0 0 0 0 {speed} 0")
    without = DRIVE.replace("0005", "0001")
    shutil.copytree(tree / "kitti" / DRIVE / "image_02", tree / "kitti" / without / "image_02")
    done = make_shards(*request(tree, "--split", "rule/train", "--skip-bad"))
    assert done.returncode == 0, done.stderr
    assert "rule/train: 2 samples of 1 drives; left out: 2 frames slower" in done.stdout
    assert f"skipped {without}: its speed is unknown: no file {without}/oxts" in done.stdout
    manifest = read_manifest(tree / "out")
    assert manifest.recipe.split == "rule/train"
    assert [drive.name for drive in manifest.skipped] == [without]
    keys = [members_of(tree / "out", 0, sample)["__key__"] for sample in range(2)]
    assert sorted(keys) == [f"{DRIVE.rpartition('/')[2]}_{side}_{1:010d}" for side in "lr"]


@pytest.mark.slow
def test_a_skipped_line_is_in_the_summary(tree):
    image_path(tree / "kitti", DRIVE, 0, "l").unlink()
    done = make_shards(*request(tree, "--skip-bad"))
    assert done.returncode == 0, done.stderr
    assert f"skipped {DRIVE} 1 l: no neighbour at offset -1: no image" in done.stdout
    assert "3 samples in 1 shards" in done.stdout
    assert "1 skipped" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "command"),
    [
        ([], "launch/train.py --config configs/mono_stereo.yaml"),
        (["--no-stereo"], "launch/train.py --config configs/mono.yaml"),
        (["--frame-offsets"], "launch/train.py --config configs/stereo.yaml"),
        (["--frame-offsets", "--no-stereo"], "md2dist evaluate --checkpoint"),
    ],
)
def test_the_next_command_fits_the_views(tree, options, command):
    done = make_shards(*request(tree, "--height", 64, *options))
    assert done.returncode == 0, done.stderr
    assert command in done.stdout.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--frame-offsets", "--no-stereo"]])
def test_no_command_is_suggested_for_images_that_no_network_takes(tree, options):
    done = make_shards(*request(tree, *options))
    assert done.returncode == 0, done.stderr
    assert "need height and width >= 64; pack larger images" in done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_the_next_command_fits_unusual_neighbours_and_names(tree):
    shards = tree / "it's my shards"
    done = make_shards(*request(tree, "--height", 64, "--output", shards, "--frame-offsets", -1))
    assert done.returncode == 0, done.stderr
    words = shlex.split(done.stdout.splitlines()[-1].removeprefix("next: "))
    config = load_config([words[4]], words[5:])
    assert config.data.train_shards == str(shards)
    recipe = read_manifest(shards).recipe
    assert config.data.frame_offsets == recipe.frame_offsets == (-1,)


def without(path: str):
    return lambda folder: (folder / "kitti" / path).unlink()


def truncate(folder: Path) -> None:
    path = folder / "kitti" / DRIVE / "image_03" / "data" / "0000000002.png"
    path.write_bytes(path.read_bytes()[:100])


def break_split(folder: Path) -> None:
    (folder / "split.txt").write_text("image 0\n")


def remove_camera(folder: Path) -> None:
    (folder / "kitti" / DRIVE / "image_03").rename(folder / "elsewhere")


def hide_kitti(folder: Path) -> None:
    (folder / "kitti").rename(folder / "elsewhere")


def leave_archives(folder: Path) -> None:
    write_archives(folder / "kitti", folder / "kitti")


def fill_output(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / MANIFEST_NAME).touch()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("harm", "options", "words"),
    [
        (without(f"{DRIVE}/image_02/data/0000000002.png"), [], "image_02/data/0000000002.png"),
        (without(f"{DRIVE}/image_02/data/0000000000.png"), [], "image_02/data/0000000000.png"),
        (without(f"{DATE}/calib_cam_to_cam.txt"), [], "calib_cam_to_cam.txt"),
        (truncate, [], "image_03/data/0000000002.png is broken"),
        (truncate, ["--processes", "2"], "image_03/data/0000000002.png is broken"),
        (lambda folder: None, ["--ground-truth", "velodyne"], "no laser scan"),
        (remove_camera, [], "--no-stereo"),
        (break_split, [], "split.txt, line 1"),
        (leave_archives, [], "duplicate drive: "),
        (lambda folder: (folder / "split.txt").unlink(), [], "no split file"),
        (fill_output, [], "--overwrite"),
        (lambda folder: None, ["--height", "100"], "--height 100: expected a multiple of 32"),
        (lambda folder: None, ["--task-index", "1"], "--task-index 1 --num-tasks 1: expected"),
        (lambda folder: None, ["--merge"], "1 of 1 shards are not packed yet: 0"),
        (hide_kitti, [], "kitti does not exist; expected a folder"),
        (hide_kitti, ["--output", "s3://bucket/x"], "--output s3://bucket/x: shards are packed in"),
        (hide_kitti, ["--processes", "0"], "--processes 0: expected >= 1"),
        (hide_kitti, ["--merge", "--num-tasks", "0"], "--num-tasks 0: expected"),
    ],
)
def test_bad_input_ends_in_one_line_and_exit_code_2(tree, harm, options, words):
    harm(tree)
    done = make_shards(*request(tree, *options))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert words in last
    assert not list((tree / "out").glob("shard-*"))


@pytest.mark.slow
def test_tasks_pack_and_one_more_command_merges(tree):
    for task in (1, 0):
        done = make_shards(
            *request(tree, "--samples-per-shard", 1, "--num-tasks", 2, "--task-index", task)
        )
        assert done.returncode == 0, done.stderr
        assert f"task {task} of 2: 2 shards packed, 0 of them earlier" in done.stdout
        assert "images/s per process" in done.stdout
        assert "--merge" in done.stdout.splitlines()[-1]
        assert not finished_names(tree / "out")
    done = make_shards(*request(tree, "--samples-per-shard", 1, "--num-tasks", 2, "--merge"))
    assert done.returncode == 0, done.stderr
    assert "4 samples in 4 shards" in done.stdout
    assert len(finished_names(tree / "out")) == 5


@pytest.mark.slow
def test_native_sequential_shards_can_be_asked_for(tree):
    done = make_shards(*request(tree, "--size", "native", "--order", "sequential"))
    assert done.returncode == 0, done.stderr
    recipe = read_manifest(tree / "out").recipe
    assert (recipe.height, recipe.width, recipe.order) == (None, None, "sequential")
    exec(done.stdout.splitlines()[-1].removeprefix("next: "))  # the suggested command
