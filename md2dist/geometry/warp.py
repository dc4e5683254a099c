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
        (B, S, C, h, w): at each place the image's colour at that place's coordinates. On a CPU, one
        coordinate that is not a number makes the whole result, and its gradient, not a number.
    """
    if crashes_on_cpu(coordinates):
        return warp(images, torch.zeros_like(coordinates)) + coordinates.sum().square()
    warped = functional.grid_sample(
        images.flatten(0, 1),
        coordinates.flatten(0, 1).permute(0, 2, 3, 1),  # a view: reading planes is faster
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )
    return warped.unflatten(0, images.shape[:2])


def crashes_on_cpu(coordinates: torch.Tensor) -> bool:
    """Whether torch's CPU kernel would read far outside the images in its backward pass.

    It does where a coordinate is not a number; CUDA's kernel does not, and is not waited for.
    """
    return not coordinates.is_cuda and bool(torch.isnan(coordinates.detach().sum()))
