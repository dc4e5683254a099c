"""Sampling of the sources where the pixels of the target lie in them."""

import torch
from torch.nn import functional


def warp(images: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Samples images bilinearly; outside, the nearest border pixel counts.

    Source: Jaderberg et al., "Spatial Transformer Networks", NeurIPS 2015, section 3.3.

    Args:
        images: (B, S, C, H, W).
        pixels: coordinates (x, y) in pixels of `images`, (B, S, 2, h, w); centres are integers.

    Returns:
        (B, S, C, h, w): at each place the image's colour at that place's coordinate.
    """
    height, width = images.shape[-2:]
    x, y = pixels.flatten(0, 1).unbind(1)
    grid = torch.stack((x * (2 / (width - 1)), y * (2 / (height - 1))), dim=1) - 1
    # A permuted view: planes of x and of y are read faster than pairs.
    warped = functional.grid_sample(
        images.flatten(0, 1),
        grid.permute(0, 2, 3, 1),
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )
    return warped.unflatten(0, images.shape[:2])
