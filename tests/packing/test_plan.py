import dataclasses

import pytest

from md2dist.data.packing.plan import check_request
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
