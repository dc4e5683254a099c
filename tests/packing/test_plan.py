import dataclasses
import json

import pytest
from helpers.kitti_tree import DRIVE, write_kitti_tree

from md2dist.data.kitti.source import KittiSource
from md2dist.data.kitti.splits import SkippedLine, SplitLine
from md2dist.data.kitti.tree import SourceTree
from md2dist.data.packing.image_store import store_images
from md2dist.data.packing.plan import Plan, PlannedSample, check_request
from md2dist.data.shards.recipe import Recipe
from md2dist.errors import ConfigError

RECIPE = Recipe("small", 32, 64, (-1, 1), use_stereo=True, samples_per_shard=5)


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ({"height": 100}, "--height 100"),
        ({"width": 0}, "--width 0"),
        ({"frame_offsets": (1, -1)}, "--frame-offsets 1 -1"),
        ({"frame_offsets": (-1, 0, 1)}, "--frame-offsets -1 0 1"),
        ({"samples_per_shard": 0}, "--samples-per-shard 0"),
        ({"image_quality": 101}, "--quality 101"),
        ({"seed": -1}, "--seed -1"),
    ],
)
def test_an_impossible_recipe_names_the_option(change, option):
    check_request(RECIPE)
    with pytest.raises(ConfigError, match=f"^{option}: expected"):
        check_request(dataclasses.replace(RECIPE, **change))


def test_a_plan_is_known_by_its_lines_not_by_the_reasons_of_skipped_ones(tmp_path):
    sample = PlannedSample(SplitLine(DRIVE, 1, "l"), {}, None)
    plan = Plan(
        KittiSource(SourceTree(tmp_path)), RECIPE, [sample], [SkippedLine(DRIVE, 2, "l", "a")], True
    )
    renamed = plan._replace(skipped=[SkippedLine(DRIVE, 2, "l", "b")])
    assert renamed.fingerprint() == plan.fingerprint()
    planned = plan._replace(samples=[sample, sample._replace(line=SplitLine(DRIVE, 2, "l"))])
    assert planned._replace(skipped=[]).fingerprint() != plan.fingerprint()


def test_images_that_an_earlier_version_stored_without_checksums_are_kept(tmp_path):
    write_kitti_tree(tmp_path / "kitti", num_frames=3)
    tree, store = SourceTree(tmp_path / "kitti"), tmp_path / "images"
    names = [f"{DRIVE}/image_02/data/{frame:010d}.png" for frame in range(3)]
    assert store_images(tree, names, RECIPE, store).num_encoded == 3
    for path in store.glob("*.json"):
        stored = json.loads(path.read_text())
        path.write_text(json.dumps({name: image[:6] for name, image in stored.items()}))
    again = store_images(tree, names, RECIPE, store)
    assert (again.num_encoded, set(again.images)) == (0, set(names))
