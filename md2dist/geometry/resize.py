"""Resizing between the scales of the pyramid."""

from collections.abc import Sequence

import torch
from torch.nn import functional


def upsample(maps: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Upsamples maps bilinearly with half-pixel centres (``align_corners=False``).

    Args:
        maps: (B, C, h, w).
        height: rows of the result.
        width: columns of the result.

    Returns:
        (B, C, height, width); `maps` itself if it has this size.
    """
    if maps.shape[-2:] == (height, width):
        return maps
    return functional.interpolate(maps, (height, width), mode="bilinear", align_corners=False)


def downsample(images: torch.Tensor, scale: int) -> torch.Tensor:
    """Downsamples images to a scale by averaging 2^scale x 2^scale pixels.

    Args:
        images: (..., C, H, W).
        scale: number of halvings.

    Returns:
        (..., C, H / 2^scale, W / 2^scale).
    """
    if scale == 0:
        return images
    means = functional.avg_pool2d(images.flatten(0, -4), 2**scale)
    return means.unflatten(0, images.shape[:-3])


def join(maps: Sequence[torch.Tensor], dim: int = 0) -> torch.Tensor:
    """Concatenates maps of any shape along a dimension; a single one is not copied."""
    return torch.cat(list(maps), dim) if len(maps) > 1 else maps[0]
