import numpy as np
from matplotlib import colormaps

from md2dist.prediction.colour_maps import colour_disparity


def magma(level):
    return np.array(colormaps["magma"](level, bytes=True)[:3])


def test_the_range_goes_from_the_least_value_to_the_95th_percentile():
    disparity = np.arange(101, dtype=np.float64).reshape(1, 101) + 7
    colours = colour_disparity(disparity)
    assert colours.shape == (1, 101, 3)
    assert colours.dtype == np.uint8
    np.testing.assert_array_equal(colours[0, 0], magma(0))
    np.testing.assert_array_equal(colours[0, 19], magma(51))  # a fifth of 95
    np.testing.assert_array_equal(colours[0, 95:], [magma(255)] * 6)


def test_scale_and_offset_of_the_disparity_do_not_matter():
    disparity = np.random.default_rng(0).random((20, 30))
    np.testing.assert_array_equal(
        colour_disparity(disparity), colour_disparity(4 * disparity + 0.25)
    )


def test_near_pixels_are_brighter():
    brightness = colour_disparity(np.linspace(0, 1, 40)).sum(axis=-1)
    assert (np.diff(brightness.astype(int)[:38]) > 0).all()


def test_a_constant_map_has_one_colour():
    np.testing.assert_array_equal(
        colour_disparity(np.full((3, 4), 0.3)), np.broadcast_to(magma(0), (3, 4, 3))
    )
