"""Edge-aware smoothness loss."""

import torch

EPSILON = 1e-7


def smoothness_loss(disparity: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Penalises gradients of the mean-normalised disparity, less at edges of the image.

    Source: Godard et al., ICCV 2019, equation 3; the normalisation is from Wang et al., "Learning
    Depth from Monocular Videos using Direct Methods", CVPR 2018.

    Args:
        disparity: (B, 1, H, W), in (0, 1).
        image: (B, C, H, W), the target at this size.

    Returns:
        A scalar (): the mean over x-differences plus the mean over y-differences.
    """
    normalised = disparity / (disparity.mean((2, 3), keepdim=True) + EPSILON)
    errors = [
        _difference(normalised, dim) * torch.exp(-_difference(image, dim).mean(1, keepdim=True))
        for dim in (2, 3)
    ]
    return errors[0].mean() + errors[1].mean()


def _difference(maps: torch.Tensor, dim: int) -> torch.Tensor:
    """Returns absolute differences of neighbours of (B, C, H, W) along a dimension, one shorter."""
    return maps.diff(dim=dim).abs()
