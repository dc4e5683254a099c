"""Pictures of predictions beside their images."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import max_pool2d

from md2dist.errors import check_shape
from md2dist.prediction.colour_maps import colour_disparity, colour_error

Picture = NDArray[np.uint8]

LARGEST_ERROR = 0.5  # photometric; larger ones have the last colour


def depth_overlay(image: Picture, depth: NDArray[np.floating]) -> Picture:
    """Draws sparse ground truth over its image.

    Args:
        image: (h, w, 3) RGB; resized to the ground truth.
        depth: (H, W) in m, 0 where unknown.

    Returns:
        (H, W, 3); each known pixel is a 3x3 point coloured by 1 / depth, near ones on top.
    """
    height, width = depth.shape
    picture = np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    nearness = np.divide(1, depth, out=np.zeros(depth.shape), where=depth > 0)
    points = max_pool2d(torch.from_numpy(nearness)[None], 3, stride=1, padding=1)[0].numpy()
    known = points > 0
    if known.any():
        picture[known] = colour_disparity(points[known])
    return picture


def training_panel(
    target: torch.Tensor,
    disparities: Sequence[torch.Tensor],
    warped: torch.Tensor,
    auto_mask: torch.Tensor,
    error: torch.Tensor,
) -> Picture:
    """Draws one sample of a training step: target, error, disparities, warped sources, mask.

    Args:
        target: (3, H, W) in [0, 1], any device.
        disparities: (1, h, w) of each scale, enlarged without interpolation.
        warped: (S, 3, H, W) in [0, 1].
        auto_mask: (H, W) bool, True (white) where the pixel counts.
        error: (H, W) photometric, blue at 0, red from `LARGEST_ERROR`.

    Returns:
        Tiles in reading order, two per row, black if the number is odd: (H', 2W, 3).

    Raises:
        ShapeError: if the shapes are inconsistent.
    """
    sizes = check_shape(target, "3 H W", "target")
    for disparity in disparities:
        check_shape(disparity, "1 h w", "disparity")
    check_shape(warped, "S 3 H W", "warped", **sizes)
    check_shape(auto_mask, "H W", "auto_mask", **sizes)
    check_shape(error, "H W", "error", **sizes)
    height, width = error.shape
    level = error.detach().float().nan_to_num(LARGEST_ERROR).cpu().numpy() / LARGEST_ERROR
    coloured = [
        Image.fromarray(colour_disparity(disparity[0].detach().float().cpu().numpy()))
        for disparity in disparities
    ]
    tiles = [
        _to_picture(target),
        colour_error(level),
        *(np.asarray(tile.resize((width, height), Image.Resampling.NEAREST)) for tile in coloured),
        *map(_to_picture, (*warped, auto_mask.expand(3, -1, -1).float())),
    ]
    if len(tiles) % 2:
        tiles.append(np.zeros_like(tiles[0]))
    return np.vstack([np.hstack(tiles[i : i + 2]) for i in range(0, len(tiles), 2)])


def _to_picture(image: torch.Tensor) -> Picture:
    """Converts (3, H, W) in [0, 1] to (H, W, 3) uint8."""
    levels = (image.detach().float().nan_to_num().clamp(0, 1) * 255).round().byte()
    return levels.permute(1, 2, 0).cpu().numpy()
