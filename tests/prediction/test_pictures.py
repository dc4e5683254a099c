import numpy as np
import pytest
import torch

from md2dist.errors import ShapeError
from md2dist.prediction.colour_maps import colour_disparity, colour_error
from md2dist.prediction.pictures import LARGEST_ERROR, depth_overlay, training_panel

HEIGHT, WIDTH = 4, 6


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture
def disparity():
    return np.random.default_rng(1).random((HEIGHT, WIDTH)).astype(np.float32)


def to_tensor(image):
    return torch.from_numpy(image).permute(2, 0, 1) / 255


def test_an_overlay_paints_points_of_three_pixels_and_nothing_else(image):
    depth = np.zeros((12, 16))
    depth[2, 3], depth[8, 9] = 5.0, 50.0
    picture = depth_overlay(image, depth)
    bare = depth_overlay(image, np.zeros((12, 16)))
    touched = (picture != bare).any(axis=-1)
    expected = np.zeros((12, 16), dtype=bool)
    expected[1:4, 2:5] = expected[7:10, 8:11] = True
    np.testing.assert_array_equal(touched, expected)
    assert picture[2, 3].sum() > picture[8, 9].sum()  # near points are bright


def test_in_an_overlay_near_points_cover_far_ones(image):
    depth = np.zeros((12, 16))
    depth[5, 5], depth[5, 6], depth[5, 7] = 50.0, 5.0, 50.0
    picture = depth_overlay(image, depth)
    np.testing.assert_array_equal(picture[4:7, 5:8], np.broadcast_to(picture[5, 6], (3, 3, 3)))
    assert picture[5, 4].sum() < picture[5, 6].sum()


def test_an_overlay_has_the_size_of_the_ground_truth(image):
    assert depth_overlay(image, np.zeros((9, 17))).shape == (9, 17, 3)


@pytest.mark.parametrize(("num_sources", "num_rows"), [(1, 3), (2, 4), (3, 4)])
def test_a_panel_shows_every_tile_in_reading_order(image, disparity, num_sources, num_rows):
    sources = [np.full_like(image, 40 * (i + 1)) for i in range(num_sources)]
    mask = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 2 == 0
    error = np.linspace(0, 1, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    panel = training_panel(
        to_tensor(image),
        [torch.from_numpy(level.copy())[None] for level in (disparity, disparity[::2, ::2])],
        torch.stack([to_tensor(source) for source in sources]),
        torch.from_numpy(mask),
        torch.from_numpy(error),
    )
    assert panel.dtype == np.uint8
    assert panel.shape == (num_rows * HEIGHT, 2 * WIDTH, 3)
    black = np.zeros_like(image)
    small = colour_disparity(disparity[::2, ::2]).repeat(2, axis=0).repeat(2, axis=1)
    white_where_counted = np.where(mask[..., None], 255, 0).repeat(3, axis=-1)
    expected = [image, colour_error(error / LARGEST_ERROR), colour_disparity(disparity), small]
    expected += [*sources, white_where_counted, black]
    tiles = panel.reshape(num_rows, HEIGHT, 2, WIDTH, 3).swapaxes(1, 2).reshape(-1, *image.shape)
    for tile, wanted in zip(tiles, expected, strict=False):
        np.testing.assert_array_equal(tile, wanted)


def test_a_panel_takes_half_precision_gradients_and_values_beyond_the_range(image, disparity):
    target = (to_tensor(image) * 3 - 1).bfloat16().requires_grad_()
    panel = training_panel(
        target,
        [torch.from_numpy(disparity)[None].bfloat16().requires_grad_()],
        target[None],
        torch.ones(HEIGHT, WIDTH, dtype=torch.bool),
        torch.zeros(HEIGHT, WIDTH),
    )
    assert panel[:HEIGHT, :WIDTH].min() == 0
    assert panel[:HEIGHT, :WIDTH].max() == 255


def test_a_whole_batch_is_refused(image, disparity):
    with pytest.raises(ShapeError, match=r"target has shape \(1, 3, 4, 6\)"):
        training_panel(
            to_tensor(image)[None],
            [torch.from_numpy(disparity)[None]],
            to_tensor(image)[None],
            torch.ones(HEIGHT, WIDTH, dtype=torch.bool),
            torch.zeros(HEIGHT, WIDTH),
        )
