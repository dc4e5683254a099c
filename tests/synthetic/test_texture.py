"""Textures: periodic, exact at texel centres, averaged over what a pixel covers."""

import numpy as np
import pytest

from md2dist.synthetic.texture import LEVEL_STARTS, MATERIALS, SIZE, STRIDE, build_ripmaps, sample


@pytest.fixture(scope="module")
def ripmaps():
    return build_ripmaps(seed=0, drive=1)


def tile_of(ripmaps, name):
    page = ripmaps.reshape(len(MATERIALS), STRIDE, STRIDE)[MATERIALS[name]]
    return page[:SIZE, :SIZE].astype(np.float64)


def look_up(ripmaps, name, s, t, footprint_s=0.0, footprint_t=0.0):
    place = np.array(np.broadcast_arrays(s, t), np.float32).reshape(2, -1)
    footprint = np.full_like(place, 0) + np.float32([[footprint_s], [footprint_t]])
    material = np.full(place.shape[1], MATERIALS[name], np.int32)
    return sample(ripmaps, material, place, footprint)


@pytest.mark.parametrize("name", list(MATERIALS))
def test_every_material_is_textured_at_every_scale(ripmaps, name):
    """No large area is flat: photometric matching needs contrast in every tenth of a tile."""
    tile = tile_of(ripmaps, name)
    assert 0 <= tile.min() < tile.max() <= 1.001
    patches = tile[:250, :250].reshape(10, 25, 10, 25).std((1, 3))
    assert np.quantile(patches, 0.05) > 0.01


def test_texel_centres_give_the_texels(ripmaps):
    rows, columns = np.mgrid[0:SIZE:37, 0:SIZE:41]
    values = look_up(ripmaps, "road", (columns + 0.5) / SIZE, (rows + 0.5) / SIZE)
    np.testing.assert_allclose(values, tile_of(ripmaps, "road")[rows, columns].ravel(), atol=1e-4)


def test_the_value_between_two_texels_is_their_mean_also_across_the_seam(ripmaps):
    tile = tile_of(ripmaps, "leaves")
    row = 19
    inside = look_up(ripmaps, "leaves", 8 / SIZE, (row + 0.5) / SIZE)
    seam = look_up(ripmaps, "leaves", [0.0, 1.0], (row + 0.5) / SIZE)
    np.testing.assert_allclose(inside, tile[row, 7:9].mean(), atol=1e-5)
    np.testing.assert_allclose(seam, tile[row, [0, -1]].mean(), atol=1e-5)


@pytest.mark.parametrize("texels", [2, 8, 64])
def test_a_wide_footprint_averages_along_its_own_axis_only(ripmaps, texels):
    tile = tile_of(ripmaps, "bricks")
    row, start = 100, 2 * texels if texels < 64 else 64
    t = (row + 0.5) / SIZE
    middle = (start + texels / 2) / SIZE
    values = look_up(ripmaps, "bricks", middle, t, footprint_s=texels / SIZE)
    np.testing.assert_allclose(values, tile[row, start : start + texels].mean(), atol=1e-4)


def test_a_pixel_that_covers_everything_sees_the_mean(ripmaps):
    value = look_up(ripmaps, "slabs", 0.3, 0.8, 5.0, 7.0)
    np.testing.assert_allclose(value, tile_of(ripmaps, "slabs").mean(), atol=2e-3)


def test_detail_fades_steadily_with_the_footprint(ripmaps):
    """No jump where one level hands over to the next, which would break photometric matching."""
    footprints = np.geomspace(1 / SIZE, 0.5, 400)
    values = np.concatenate([look_up(ripmaps, "planks", 0.4, 0.6, f, f) for f in footprints])
    assert np.abs(np.diff(values)).max() < 0.02


def test_levels_are_stored_side_by_side():
    assert list(LEVEL_STARTS[:3]) == [0, SIZE + 1, SIZE + 1 + SIZE // 2 + 1]
    assert LEVEL_STARTS[-1] + 2 == STRIDE
