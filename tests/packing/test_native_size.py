import dataclasses
import shutil

import numpy as np
import pytest
from helpers.kitti_tree import CX, DATE, DRIVE, FX, HEIGHT, WIDTH, image_path, write_kitti_tree
from helpers.packing_command import pack_lines
from PIL import Image

from md2dist.data.kitti.splits import SplitLine
from md2dist.data.loading.loader import make_loader
from md2dist.data.loading.order import GlobalOrder
from md2dist.data.packing.plan import check_request
from md2dist.data.shards.compatibility import check_recipe
from md2dist.data.shards.dataset import ShardDataset
from md2dist.data.shards.manifest import read_manifest
from md2dist.data.shards.recipe import Recipe
from md2dist.distributed.topology import Topology
from md2dist.errors import KittiDataError, ShardError

RECIPE = Recipe("small", None, None, (-1, 1), use_stereo=True)
SMALL_DRIVE = f"{DATE}/{DATE}_drive_0009_sync"
SMALL = 40, 120  # height and width in pixels, neither a multiple of 32
LINES = [SplitLine(drive, frame, "r") for drive in (DRIVE, SMALL_DRIVE) for frame in (1, 2)]


@pytest.fixture
def tree(tmp_path):
    """Two drives of different sizes."""
    root = tmp_path / "kitti"
    write_kitti_tree(root, num_frames=4)
    shutil.copytree(root / DRIVE, root / SMALL_DRIVE)
    for path in (root / SMALL_DRIVE).rglob("*.png"):
        Image.open(path).resize(SMALL[::-1]).save(path)
    return root


def pack(tree, output, *, recipe=RECIPE, skip_bad=False):
    check_request(recipe)
    return pack_lines(tree, output, LINES, recipe, skip_bad=skip_bad)


def test_native_images_keep_every_pixel_and_record_their_size(tree, tmp_path):
    pack(tree, tmp_path / "out")
    shards = ShardDataset(tmp_path / "out")
    assert "native size" in repr(shards)
    for sample in shards:
        drive, frame = f"{DATE}/{sample.info['drive']}", sample.info["frame"]
        size = SMALL if drive == SMALL_DRIVE else (HEIGHT, WIDTH)
        assert (sample.info["height"], sample.info["width"]) == size
        assert (sample.info["native_height"], sample.info["native_width"]) == size
        for view, number, side in [("0", frame, "r"), ("+1", frame + 1, "r"), ("s", frame, "l")]:
            native = np.asarray(Image.open(image_path(tree, drive, number, side)))
            np.testing.assert_array_equal(sample.frames[view], native)


def test_the_intrinsics_are_in_pixels_of_each_samples_own_size(tree, tmp_path):
    pack(tree, tmp_path / "out")
    K = {s.info["drive"]: np.array(s.info["K"]) for s in ShardDataset(tmp_path / "out")}
    native, small = K[DRIVE.partition("/")[2]], K[SMALL_DRIVE.partition("/")[2]]
    assert (native[0, 0], native[0, 2]) == pytest.approx((FX, CX))
    scale = SMALL[1] / WIDTH
    assert (small[0, 0], small[0, 2]) == pytest.approx((FX * scale, (CX + 0.5) * scale - 0.5))


@pytest.mark.parametrize("size", [(None, None), (32, 64)], ids=["native", "resized"])
def test_an_image_that_differs_in_size_from_its_sample_is_named(tree, tmp_path, size):
    path = image_path(tree, DRIVE, 3, "r")
    Image.open(path).resize((100, 30)).save(path)
    recipe = dataclasses.replace(RECIPE, height=size[0], width=size[1])
    words = r"drive_0005_sync 2 r differ in size: .*image_03/data/0000000003\.png is 30x100"
    with pytest.raises(KittiDataError, match=words):
        pack(tree, tmp_path / "out", recipe=recipe)
    manifest = pack(tree, tmp_path / "out", recipe=recipe, skip_bad=True)
    assert [drive.name for drive in manifest.skipped] == [f"{DRIVE} 2 r"]


def test_training_refuses_native_shards_and_states_how_to_pack(tree, tmp_path):
    pack(tree, tmp_path / "out")
    words = r"out is packed at native size.*pack again with --height 192 --width 640"
    with pytest.raises(ShardError, match=words):
        check_recipe(
            read_manifest(tmp_path / "out"),
            tmp_path / "out",
            height=192,
            width=640,
            frame_offsets=(),
            use_stereo=False,
        )
    shards = ShardDataset(tmp_path / "out")
    order = GlobalOrder(shards.manifest.shard_sizes, seed=0, global_batch_size=2, window_shards=1)
    with pytest.raises(ShardError, match=words):
        make_loader(shards, order, Topology(), views=["0", "-1", "+1", "s"], steps=range(1))
