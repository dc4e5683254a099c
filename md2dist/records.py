"""Records exchanged between the subpackages.

They are NamedTuples, which pass unchanged through WebDataset's batching, loader workers and
DeepSpeed's forward; no field is ever None.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from md2dist.errors import check_shape


class FrameBatch(NamedTuple):
    """Output of the loader: unaugmented frames at full resolution, on the host.

    Frame 0 is the target; the sources follow in order of their temporal offsets, stereo last.
    """

    frames: torch.Tensor  # (B, 1+S, H, W, 3) uint8
    K: torch.Tensor  # (B, 3, 3) float32, pixels of `frames`
    T_stereo: torch.Tensor  # (B, 4, 4) float32, target -> other camera; identity where unused
    sample_id: torch.Tensor  # (B,) int64, index of the sample in the manifest


class Batch(NamedTuple):
    """Input of the model, images in [0, 1]: networks use the `_aug` ones, losses the others."""

    target: torch.Tensor  # (B, 3, H, W)
    target_aug: torch.Tensor  # (B, 3, H, W)
    sources: torch.Tensor  # (B, S, 3, H, W), temporal offsets ascending, stereo last
    sources_aug: torch.Tensor  # (B, S, 3, H, W)
    K: torch.Tensor  # (B, 3, 3), pixels of `target`
    T_stereo: torch.Tensor  # (B, 4, 4), target -> other camera; identity where unused
    sample_id: torch.Tensor  # (B,) int64

    def check_shapes(self, **sizes: int) -> None:
        """Checks every tensor against H, W and S, the number of sources.

        Raises:
            ShapeError: naming the first tensor of another shape.
        """
        for name, expected in _BATCH_SHAPES.items():
            sizes = check_shape(getattr(self, name), expected, f"batch.{name}", **sizes)


_BATCH_SHAPES = {
    "target": "B 3 H W",
    "target_aug": "B 3 H W",
    "sources": "B S 3 H W",
    "sources_aug": "B S 3 H W",
    "K": "B 3 3",
    "T_stereo": "B 4 4",
    "sample_id": "B",
}


class StepOutput(NamedTuple):
    """Output of one forward pass; only `loss` carries gradients."""

    loss: torch.Tensor  # () float32: the mean of scale_losses
    scale_losses: torch.Tensor  # (num_scales,): photometric + weighted smoothness loss per scale
    disparities: tuple[torch.Tensor, ...]  # (B, 1, H/2^s, W/2^s) each, in (0, 1), scale 0 first
    T_source_target: torch.Tensor  # (B, S, 4, 4): p_source = T_source_target @ p_target
    warped: torch.Tensor  # (B, S, 3, H, W): the sources warped to the target, scale 0
    auto_mask: torch.Tensor  # (B, H, W) bool, scale 0: True = the pixel counts


class Prediction(NamedTuple):
    """Depth of one image, at the size of that image."""

    depth: NDArray[np.float32]  # (H, W): m where `is_metric`, else in an unknown unit
    disparity: NDArray[np.float32]  # (H, W), in (0, 1); 1 is the nearest depth of the model
    is_metric: bool  # whether the model learned metric scale from stereo pairs
