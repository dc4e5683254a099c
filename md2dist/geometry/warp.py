"""Warping: bilinear sampling of the sources at the projected pixels of the target."""

import torch
from torch.nn import functional

from md2dist.kernel_style import is_forced


def warp(images: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
    """Samples images bilinearly, with border pixels repeated outside.

    Source: Jaderberg et al., "Spatial Transformer Networks", NeurIPS 2015, section 3.3.

    Args:
        images: (B, S, C, H, W).
        coordinates: (B, S, 2, h, w), (x, y) as `camera.reproject` returns them.

    Returns:
        (B, S, C, h, w), the images at these coordinates. On a CPU, a NaN coordinate makes the whole
        result and its gradient NaN.
    """
    if torch.compiler.is_compiling() and not coordinates.is_cuda:
        return _sample_without_branch(images, coordinates)
    if crashes_on_cpu(coordinates):
        return warp(images, torch.zeros_like(coordinates)) + coordinates.sum().square()
    return _sample(images, coordinates)


def _sample(images: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
    """Samples (B, S, C, H, W) at finite (B, S, 2, h, w); see `warp`."""
    warped = functional.grid_sample(
        images.flatten(0, 1),
        coordinates.flatten(0, 1).permute(0, 2, 3, 1),  # a view: planar memory is read faster
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )
    return warped.unflatten(0, images.shape[:2])


def _sample_without_branch(images: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
    """Samples (B, S, C, H, W) at (B, S, 2, h, w); a branch would divide the compiled graph."""
    total = coordinates.sum()
    is_nan = total.isnan()
    warped = _sample(images, coordinates.where(~is_nan, 0))
    return warped + total.where(is_nan, 0).square()


def crashes_on_cpu(coordinates: torch.Tensor) -> bool:
    """Whether torch's CPU kernel would read far outside the images in its backward pass.

    It does for NaN coordinates (B, S, 2, h, w). CUDA's kernel does not, so it is not synchronised.
    """
    if coordinates.is_cuda or is_forced():
        return False
    return bool(torch.isnan(coordinates.detach().sum()))
