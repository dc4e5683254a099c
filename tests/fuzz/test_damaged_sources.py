"""Random damage to KITTI's files and to the records of an unfinished packing."""

import shutil

import numpy as np
import pytest
from fuzz.damage import damaged, fuzzed, outcome_of, replaced
from helpers.kitti_tree import DATE, DRIVE, write_annotated, write_archives, write_kitti_tree
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from md2dist.data.inspection.verification import verify_shards
from md2dist.data.kitti.named_splits import load_split
from md2dist.data.kitti.roots import open_kitti
from md2dist.data.kitti.source import KittiSource
from md2dist.data.kitti.split_rules import select_samples
from md2dist.data.packing.merge import merge_shards
from md2dist.data.packing.plan import plan_samples
from md2dist.data.packing.writer import pack_shards
from md2dist.data.shards.dataset import ShardDataset
from md2dist.data.shards.recipe import Recipe

ANNOTATED = f"{DRIVE.partition('/')[2]}/proj_depth/groundtruth/image_02/0000000001.png"
SOURCES = {  # name of a file: the packing that reads it
    "split.txt": {},
    f"kitti/{DATE}/calib_cam_to_cam.txt": {"ground_truth": "velodyne"},
    f"kitti/{DATE}/calib_velo_to_cam.txt": {"ground_truth": "velodyne"},
    f"kitti/{DRIVE}/image_02/data/0000000001.png": {},
    f"kitti/{DRIVE}/image_03/data/0000000001.jpg": {"use_stereo": True},
    f"kitti/{DRIVE}/velodyne_points/data/0000000001.bin": {"ground_truth": "velodyne"},
    f"kitti/{ANNOTATED}": {"ground_truth": "annotated"},
    f"zips/{DATE}_calib.zip": {"root": "zips"},
    f"zips/{DRIVE.partition('/')[2]}.zip": {"root": "zips", "ground_truth": "velodyne"},
}
RECORDS = [
    "plan.json",
    "000000.json",
    "images/*.json",
    "000000.tar",
    "images/*[!n]",
    ".packed.json",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    root = folder / "kitti"
    write_kitti_tree(root, 3, use_scans=True)
    write_archives(root, folder / "zips")
    write_annotated(root, 3)
    for path in (root / DRIVE / "image_03" / "data").iterdir():
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    (root / DRIVE / "oxts" / "data").mkdir(parents=True)
    for frame in range(3):
        record = " ".join(map(str, np.linspace(1, 9, 30)))
        (root / DRIVE / "oxts" / "data" / f"{frame:010d}.txt").write_text(record)
    (folder / "split.txt").write_text(f"{DRIVE} 1 l\n{DRIVE} 2 l\n")
    return folder


def plan_in(folder, root="kitti", use_stereo=False, ground_truth="none"):
    recipe = Recipe("small", 32, 96, (), use_stereo, ground_truth=ground_truth)
    tree = open_kitti(folder / root)
    split = load_split(str(folder / "split.txt"), tree)
    return plan_samples(KittiSource(tree), split.lines, recipe)


def pack(plan, output):
    pack_shards(plan, output)
    merge_shards(plan, output)
    return {path.name: path.read_bytes() for path in output.glob("[!.]*")}


@pytest.mark.parametrize("name", SOURCES)
@fuzzed(20)
@given(data=st.data())
def test_a_damaged_source_is_refused_by_name_or_what_is_packed_verifies(folder, name, data):
    path, output = folder / name, folder / "out"
    shutil.rmtree(output, ignore_errors=True)
    named = [path.name, DRIVE] if path.suffix in (".zip", ".txt") else [path.name]
    with replaced(path, data.draw(damaged(path))):
        packed = outcome_of(lambda: pack(plan_in(folder, **SOURCES[name]), output), *named)
    if isinstance(packed, Exception):
        assert not [path.name for path in output.glob("[!.]*")]
    else:
        assert [str(fault) for fault in verify_shards(output).faults] == []
        dataset = ShardDataset(output)
        assert len([dataset[i] for i in range(len(dataset))]) in (1, 2, 3)


@pytest.mark.parametrize("name", RECORDS)
@fuzzed(8)
@given(data=st.data())
def test_damage_to_a_packing_does_no_harm_or_is_found(folder, name, data):
    output = folder / "out"
    shutil.rmtree(output, ignore_errors=True)
    plan = plan_in(folder)
    right = pack(plan, folder / "right")
    if name.startswith("."):
        pack(plan, output)
        (path,) = output.glob(name)
    else:
        pack_shards(plan_in(folder, use_stereo=True) if name == "plan.json" else plan, output)
        (path,) = output.glob(f".packing/*/{name}")
        if name.startswith("images"):  # as if the packing had stopped before this shard
            next(output.glob(".packing/*/000000.json")).unlink()
    path.write_bytes(data.draw(damaged(path)))
    # A size that a record of an image gives is that of another camera.
    named = [path.name, str(output), "correct the calibration"]
    packed = outcome_of(lambda: pack(plan, output), *named)
    if isinstance(packed, Exception) or packed == right:
        return
    assert name.startswith("000000")  # of a shard that is complete, only the size is checked
    del packed["index.json"], right["index.json"]
    assert packed == right or verify_shards(output).faults


@fuzzed(40)
@given(data=st.data())
def test_damaged_navigation_records_are_refused_by_name_or_read(folder, data):
    path = folder / "kitti" / DRIVE / "oxts" / "data" / "0000000001.txt"
    tree = open_kitti(folder / "kitti")
    with replaced(path, data.draw(damaged(path))):
        selected = outcome_of(lambda: select_samples(tree, "train", (), False), path.name)
    assert isinstance(selected, Exception) or len(selected.lines) in (4, 6)
