"""Pictures of predictions beside their images."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import max_pool2d

from md2dist.errors import check_shape
from md2dist.prediction.colour_maps import colour_disparity

Picture = NDArray[np.uint8]


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
    target: torch.Tensor, disparity: torch.Tensor, warped: torch.Tensor, auto_mask: torch.Tensor
) -> Picture:
    """Draws one sample of a training step: target, disparity, warped sources, mask.

    Args:
        target: (3, H, W) in [0, 1], any device.
        disparity: (1, H, W).
        warped: (S, 3, H, W) in [0, 1].
        auto_mask: (H, W) bool, True (white) where the pixel counts.

    Returns:
        Tiles in reading order, two per row, black if the number is odd:
        (ceil(S/2 + 1.5) H, 2W, 3).

    Raises:
        ShapeError: if the shapes are inconsistent.
    """
    sizes = check_shape(target, "3 H W", "target")
    check_shape(disparity, "1 H W", "disparity", **sizes)
    check_shape(warped, "S 3 H W", "warped", **sizes)
    check_shape(auto_mask, "H W", "auto_mask", **sizes)
    mask = auto_mask.expand(3, -1, -1).float()
    photographs = [_to_picture(image) for image in (target, *warped, mask)]
    coloured = colour_disparity(disparity[0].detach().float().cpu().numpy())
    tiles = [photographs[0], coloured, *photographs[1:]]
    if len(tiles) % 2:
        tiles.append(np.zeros_like(coloured))
    return np.vstack([np.hstack(tiles[i : i + 2]) for i in range(0, len(tiles), 2)])


def _to_picture(image: torch.Tensor) -> Picture:
    """Converts (3, H, W) in [0, 1] to (H, W, 3) uint8."""
    levels = (image.detach().float().nan_to_num().clamp(0, 1) * 255).round().byte()
    return levels.permute(1, 2, 0).cpu().numpy()
