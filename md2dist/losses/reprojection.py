"""Reduction of the errors of all sources: minimum or mean, auto-mask, predictive mask."""

from collections.abc import Sequence

import torch
from torch.nn import functional

PREDICTIVE_MASK_WEIGHT = 0.2


def reduce_sources(
    reprojection_error: torch.Tensor,
    identity_error: torch.Tensor | None = None,
    use_average: bool = False,
    noise: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Reduces the errors of all sources to one error per pixel.

    A source that is occluded at a pixel has a large error there, and the minimum ignores it. A
    pixel that matches an unwarped source best (a static camera, an object moving with it) gets that
    error, which has no gradient: the auto-mask.

    Source: Godard et al., ICCV 2019, section 3.2, equations 4 and 5.

    Args:
        reprojection_error: (B, S, ..., H, W), warped sources against the target.
        identity_error: (B, S, ..., H, W) or broadcast to it, unwarped sources against the target;
            None disables the auto-mask.
        use_average: use the mean over the sources instead of the minimum.
        noise: added to the identity error to break ties, as `draw_tie_noise` returns it,
            (B, S, ..., H, W) or, for the mean, (B, 1, ..., H, W); None: none.

    Returns:
        The error (B, ..., H, W), and the auto-mask (B, ..., H, W): True where a warped source has
        the least error.
    """
    if use_average:
        reprojection_error = reprojection_error.mean(1, keepdim=True)
    error = reprojection_error.min(1).values  # at ties, the gradient goes to one source
    if identity_error is None:
        return error, torch.ones_like(error, dtype=torch.bool)
    if use_average:
        identity_error = identity_error.mean(1, keepdim=True)
    if noise is not None:
        identity_error = noise + identity_error
    identity_error = identity_error.amin(1)
    auto_mask = error < identity_error
    return torch.where(auto_mask, error, identity_error), auto_mask


def draw_tie_noise(
    shape: Sequence[int], tie_noise: float, like: torch.Tensor, generator: torch.Generator | None
) -> torch.Tensor:
    """Draws normal noise.

    Args:
        shape: of the result.
        tie_noise: standard deviation.
        like: any shape; its type and device are the result's.
        generator: None: the device's default.

    Returns:
        A tensor of that shape.
    """
    noise = torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
    return noise.mul_(tie_noise)


def predictive_mask_loss(mask: torch.Tensor) -> torch.Tensor:
    """Penalises predictive masks that exclude pixels.

    Source: Zhou et al., CVPR 2017, section 3.3; weight of Godard et al., ICCV 2019, section 4.

    Args:
        mask: any shape, in (0, 1).

    Returns:
        A scalar (): 0.2 times the mean cross entropy between the mask and 1.
    """
    entropy = functional.binary_cross_entropy(mask, torch.ones_like(mask))
    return PREDICTIVE_MASK_WEIGHT * entropy
