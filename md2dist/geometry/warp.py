"""Sampling of the sources where the pixels of the target lie in them."""

import torch
from torch.nn import functional


def warp(images: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
    """Samples images bilinearly; outside, the nearest border pixel counts.

    Source: Jaderberg et al., "Spatial Transformer Networks", NeurIPS 2015, section 3.3.

    Args:
        images: (B, S, C, H, W).
        coordinates: where to sample, (x, y) as `camera.reproject` returns them, (B, S, 2, h, w).

    Returns:
        (B, S, C, h, w): at each place the image's colour at that place's coordinates.
    """
    warped = functional.grid_sample(
        images.flatten(0, 1),
        coordinates.flatten(0, 1).permute(0, 2, 3, 1),  # a view: reading planes is faster
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )
    return warped.unflatten(0, images.shape[:2])
