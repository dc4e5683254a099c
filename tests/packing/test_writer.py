import dataclasses
import hashlib
import io
import json

import numpy as np
import pytest
import webdataset
from helpers.kitti_tree import (
    BASELINE,
    CX,
    DATE,
    DRIVE,
    FX,
    HEIGHT,
    WIDTH,
    image_path,
    write_drive_with_scans,
    write_kitti_tree,
)
from helpers.packing_command import pack_plan, skipped_in
from PIL import Image

from md2dist.data.kitti.calibration import load_calibration, read_scan
from md2dist.data.kitti.layout import find_scan
from md2dist.data.kitti.source import KittiSource
from md2dist.data.kitti.splits import SplitLine
from md2dist.data.kitti.tree import SourceTree
from md2dist.data.kitti.velodyne import project_velodyne
from md2dist.data.packing import image_store
from md2dist.data.packing.plan import plan_samples
from md2dist.data.packing.working_names import SKIPPED_NAME
from md2dist.data.shards.dataset import ShardDataset
from md2dist.data.shards.manifest import read_manifest
from md2dist.data.shards.recipe import Recipe
from md2dist.data.shards.sparse_depth import decode_sparse_depth
from md2dist.data.shards.tar_sample import sample_members
from md2dist.errors import KittiDataError, ShardError

RECIPE = Recipe("small", 32, 64, (-1, 1), use_stereo=True, samples_per_shard=5)


@pytest.fixture
def tree(tmp_path):
    return write_drive_with_scans(tmp_path / "kitti", num_frames=8)


def lines_of(num_frames=8):
    return [SplitLine(DRIVE, frame, side) for side in "lr" for frame in range(1, num_frames - 1)]


def pack(tree, output, recipe=RECIPE, lines=None, skip_bad=False, overwrite=False, processes=1):
    plan = plan_samples(
        KittiSource(SourceTree(tree)), lines or lines_of(), recipe, skip_bad=skip_bad
    )
    return pack_plan(plan, output, num_processes=processes, overwrite=overwrite)


def read_samples(folder):
    """All samples by key, read by their offsets."""
    samples = {}
    for shard in read_manifest(folder).shards:
        content = (folder / shard.name).read_bytes()
        assert len(content) == shard.num_bytes
        assert hashlib.sha256(content).hexdigest() == shard.sha256
        for start, end in zip(shard.offsets[:-1], shard.offsets[1:], strict=True):
            members = sample_members(content[start:end])
            assert members["__key__"] not in samples
            samples[members["__key__"]] = members
    return samples


def bytes_of(folder):
    """Returns the bytes of all files with final names."""
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*")}


def test_every_sample_is_packed_once_with_the_views_of_its_line(tree, tmp_path):
    manifest = pack(tree, tmp_path / "out")
    samples = read_samples(tmp_path / "out")
    assert manifest.shard_sizes == [5, 5, 2]
    assert set(samples) == {line.key for line in lines_of()}
    for line in lines_of():
        members = samples[line.key]
        other = "r" if line.side == "l" else "l"
        for name, frame, side in [
            ("0.png", line.frame, line.side),
            ("-1.png", line.frame - 1, line.side),
            ("+1.png", line.frame + 1, line.side),
            ("s.png", line.frame, other),
        ]:
            native = Image.open(image_path(tree, DRIVE, frame, side))
            expected = native.resize((64, 32), Image.Resampling.LANCZOS)
            packed = Image.open(io.BytesIO(members[name]))
            np.testing.assert_array_equal(np.asarray(packed), np.asarray(expected))


def test_the_metadata_describes_the_sample(tree, tmp_path):
    pack(tree, tmp_path / "out")
    info = json.loads(bytes(read_samples(tmp_path / "out")[lines_of()[0].key]["json"]))
    K = np.array(info.pop("K"))
    assert info == {
        "format_version": 2,
        "key": "2011_09_26_drive_0005_sync_l_0000000001",
        "date": DATE,
        "drive": "2011_09_26_drive_0005_sync",
        "frame": 1,
        "side": "l",
        "width": 64,
        "height": 32,
        "native_width": WIDTH,
        "native_height": HEIGHT,
        "baseline": BASELINE,
    }
    assert K[0, 0] == pytest.approx(FX * 64 / WIDTH)
    assert K[1, 1] == pytest.approx(FX * 32 / HEIGHT)
    assert K[0, 2] == pytest.approx((CX + 0.5) * 64 / WIDTH - 0.5)


def test_any_webdataset_client_sees_the_same_pixels(tree, tmp_path):
    manifest = pack(tree, tmp_path / "out")
    urls = [str(tmp_path / "out" / shard.name) for shard in manifest.shards]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    expected = ShardDataset(tmp_path / "out")
    assert len(samples) == len(expected) == len(lines_of())
    for sample, own in zip(samples, expected, strict=True):
        assert sample["__key__"] == own.key
        assert sample["json"] == own.info
        assert set(own.frames) == {"0", "-1", "+1", "s"}
        for view, frame in own.frames.items():
            np.testing.assert_array_equal(sample[f"{view}.png"], frame)


@pytest.mark.parametrize("side", ["l", "r"])
def test_ground_truth_is_the_native_depth_map_of_the_lines_own_camera(tree, tmp_path, side):
    recipe = dataclasses.replace(RECIPE, ground_truth="velodyne")
    pack(tree, tmp_path / "out", recipe)
    members = read_samples(tmp_path / "out")[SplitLine(DRIVE, 2, side).key]
    depth = project_velodyne(
        read_scan(SourceTree(tree), find_scan(SourceTree(tree), DRIVE, 2)),
        load_calibration(tree / DATE),
        camera={"l": 2, "r": 3}[side],
    )
    np.testing.assert_array_equal(decode_sparse_depth(members["velodyne.npz"]), depth)


@pytest.mark.slow
def test_bytes_depend_neither_on_the_processes_nor_on_the_time_of_day(tree, tmp_path, monkeypatch):
    recipe = dataclasses.replace(RECIPE, ground_truth="velodyne")
    pack(tree, tmp_path / "one", recipe)
    monkeypatch.setattr("time.time", lambda: 1e9)
    pack(tree, tmp_path / "again", recipe)
    pack(tree, tmp_path / "two", recipe, processes=2)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "again") == bytes_of(tmp_path / "two")


def test_bytes_do_not_depend_on_the_place_of_kitti_even_with_skipped_lines(tmp_path):
    for name in ("a", "b"):
        write_kitti_tree(tmp_path / name / "kitti")
        lines = [*lines_of(4), SplitLine(DRIVE, 77, "l")]
        pack(tmp_path / name / "kitti", tmp_path / name / "out", lines=lines, skip_bad=True)
    assert bytes_of(tmp_path / "a" / "out") == bytes_of(tmp_path / "b" / "out")


def test_the_seed_alone_makes_the_order_of_all_samples(tree):
    def order(seed):
        plan = plan_samples(
            KittiSource(SourceTree(tree)), lines_of(), dataclasses.replace(RECIPE, seed=seed)
        )
        return [sample.line for sample in plan.samples]

    assert order(0) == order(0) != order(1)
    assert sorted(order(0)) == sorted(order(1)) == sorted(lines_of())
    assert order(0) != lines_of()


def test_sequential_shards_keep_the_order_of_the_split(tree, tmp_path):
    lines = lines_of()[::-1]
    pack(tree, tmp_path / "out", dataclasses.replace(RECIPE, order="sequential"), lines)
    assert list(read_samples(tmp_path / "out")) == [line.key for line in lines]


def test_an_image_of_many_samples_and_shards_is_decoded_once(tree, tmp_path, monkeypatch):
    decoded = []

    def decode(content, name, original=image_store.decode_frame):
        decoded.append(name)
        return original(content, name)

    monkeypatch.setattr(image_store, "decode_frame", decode)
    pack(tree, tmp_path / "out", dataclasses.replace(RECIPE, samples_per_shard=1))
    assert len(decoded) == len(set(decoded)) == 16  # 12 samples of 4 views


def test_the_source_digest_changes_with_any_file_that_is_read(tree, tmp_path):
    before = pack(tree, tmp_path / "before").source_digest
    calibration = tree / DATE / "calib_velo_to_cam.txt"
    calibration.write_text(calibration.read_text() + "more: 1\n")
    assert pack(tree, tmp_path / "after").source_digest != before


@pytest.mark.parametrize("image_format", ["jpg", "webp"])
def test_the_format_names_the_members(tree, tmp_path, image_format):
    pack(tree, tmp_path / "out", dataclasses.replace(RECIPE, image_format=image_format))
    members = read_samples(tmp_path / "out")[lines_of()[0].key]
    names = {f"{view}.{image_format}" for view in ("0", "-1", "+1", "s")}
    assert set(members) == names | {"__key__", "json"}


def test_the_versions_of_all_that_determines_the_bytes_are_recorded(tree, tmp_path):
    versions = pack(tree, tmp_path / "out").versions
    assert {"md2dist", "numpy", "pillow", "webdataset", "zlib"} <= set(versions)
    assert all(isinstance(number, str) and number for number in versions.values())


def break_image(tree):
    path = image_path(tree, DRIVE, 3, "l")
    path.write_bytes(path.read_bytes()[:500])


def remove_image(tree):
    image_path(tree, DRIVE, 3, "l").unlink()


@pytest.mark.parametrize("harm", [break_image, remove_image])
def test_a_bad_frame_stops_the_packing_or_is_listed(tree, tmp_path, harm):
    harm(tree)
    with pytest.raises(KittiDataError, match=r"image_02/data/0000000003.*--skip-bad"):
        pack(tree, tmp_path / "out")
    assert not (tmp_path / "out").exists() or bytes_of(tmp_path / "out") == {}
    pack(tree, tmp_path / "out", skip_bad=True)
    skipped = skipped_in(tmp_path / "out")
    # As target, as neighbour of frames 2 and 4, and as the stereo view of the right camera.
    bad = {f"{DRIVE} {frame} l" for frame in (2, 3, 4)} | {f"{DRIVE} 3 r"}
    assert set(skipped) == bad
    assert all("0000000003" in reason for reason in skipped.values())
    for name in ("index.json", SKIPPED_NAME):
        assert str(tmp_path) not in (tmp_path / "out" / name).read_text()
    good = {line.key for line in lines_of() if str(line) not in bad}
    assert set(read_samples(tmp_path / "out")) == good


@pytest.mark.parametrize(
    ("frame", "reason"),
    [(0, r"offset -1: the first frame is 0"), (7, r"offset \+1: no image .*0000000008")],
)
def test_a_line_without_its_neighbour_is_named_with_the_offset(tree, tmp_path, frame, reason):
    with pytest.raises(
        KittiDataError, match=rf"{DRIVE} {frame} l: no neighbour at {reason}.*skip-bad"
    ):
        pack(tree, tmp_path / "out", lines=[SplitLine(DRIVE, frame, "l")])


@pytest.mark.parametrize("harm", [break_image, remove_image])
def test_nothing_left_to_pack_is_an_error_even_with_skip_bad(tree, tmp_path, harm):
    harm(tree)
    with pytest.raises(KittiDataError, match=r"nothing to pack.*0000000003"):
        pack(tree, tmp_path / "out", lines=[SplitLine(DRIVE, 3, "l")], skip_bad=True)
    assert not (tmp_path / "out").exists() or bytes_of(tmp_path / "out") == {}


def test_a_shard_of_which_nothing_is_left_leaves_no_gap(tree, tmp_path):
    break_image(tree)
    recipe = dataclasses.replace(RECIPE, samples_per_shard=1)
    manifest = pack(tree, tmp_path / "out", recipe, skip_bad=True)
    assert [shard.name for shard in manifest.shards] == [f"shard-{i:06d}.tar" for i in range(8)]
    assert len(read_samples(tmp_path / "out")) == 8


def test_shards_are_replaced_only_on_request_and_then_all_of_them(tree, tmp_path):
    pack(tree, tmp_path / "out", dataclasses.replace(RECIPE, samples_per_shard=1))
    with pytest.raises(ShardError, match="--overwrite"):
        pack(tree, tmp_path / "out")
    pack(tree, tmp_path / "out", overwrite=True)
    names = ["index.json", *(f"shard-{i:06d}.tar" for i in range(3))]
    assert sorted(bytes_of(tmp_path / "out")) == names


def test_a_failure_while_overwriting_keeps_the_old_shards(tree, tmp_path):
    pack(tree, tmp_path / "out")
    before = bytes_of(tmp_path / "out")
    break_image(tree)
    with pytest.raises(KittiDataError):
        pack(tree, tmp_path / "out", overwrite=True)
    assert bytes_of(tmp_path / "out") == before


def test_an_output_that_cannot_be_a_folder_is_a_usage_error(tree, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ShardError, match="cannot be written"):
        pack(tree, tmp_path / "file" / "out")
