"""Flip post-processing: the blend of the predictions of an image and of its mirror image."""

from collections.abc import Callable

import torch

Predictor = Callable[[torch.Tensor], torch.Tensor]


def with_flip_postprocess(predict: Predictor) -> Predictor:
    """Returns a predictor that blends the predictions of an image and of its mirror image."""

    def predict_both(frames: torch.Tensor) -> torch.Tensor:
        """Maps frames (B, H, W, 3) to scaled disparity (B, 1, h, w)."""
        return blend_mirrored(predict(frames), predict(frames.flip(2)).flip(3))

    return predict_both


def blend_mirrored(plain: torch.Tensor, mirrored: torch.Tensor) -> torch.Tensor:
    """Blends the predictions of an image and of its mirror image.

    The left border, which the other camera does not see, is taken from the mirrored prediction, the
    right border from the plain one; the middle is the mean of both.

    Args:
        plain: (..., W) scaled disparity, 1/m.
        mirrored: (..., W), that of the mirror image, mirrored back.

    Returns:
        (..., W) scaled disparity, 1/m.

    Source: Godard et al., CVPR 2017, section 4.1 (post-processing).
    """
    position = torch.linspace(0, 1, plain.shape[-1], dtype=plain.dtype, device=plain.device)
    left_mask = 1 - (20 * (position - 0.05)).clamp(0, 1)
    right_mask = left_mask.flip(-1)
    mean = (plain + mirrored) / 2
    return right_mask * plain + left_mask * mirrored + (1 - left_mask - right_mask) * mean
