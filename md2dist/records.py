"""Records that cross a border of the package.

NamedTuples, because they pass through WebDataset's batching, loader workers and DeepSpeed's
forward unharmed; no field is ever None.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray


class FrameBatch(NamedTuple):
    """What the loader delivers: plain frames of scale 0, on the host.

    Frame 0 is the target; the sources follow with their temporal offsets ascending, stereo last.
    """

    frames: torch.Tensor  # (B, 1+S, H, W, 3) uint8
    K: torch.Tensor  # (B, 3, 3) float32, pixels of `frames`
    T_stereo: torch.Tensor  # (B, 4, 4) float32, target -> other camera; identity where unused
    sample_id: torch.Tensor  # (B,) int64, number of the sample in the manifest


class Batch(NamedTuple):
    """What the model takes, images in [0, 1]: networks see the `_aug` ones, losses the others."""

    target: torch.Tensor  # (B, 3, H, W)
    target_aug: torch.Tensor  # (B, 3, H, W)
    sources: torch.Tensor  # (B, S, 3, H, W), temporal offsets ascending, stereo last
    sources_aug: torch.Tensor  # (B, S, 3, H, W)
    K: torch.Tensor  # (B, 3, 3), pixels of `target`
    T_stereo: torch.Tensor  # (B, 4, 4), target -> other camera; identity where unused
    sample_id: torch.Tensor  # (B,) int64


class StepOutput(NamedTuple):
    """What one forward pass yields; only `loss` carries the gradient onwards."""

    loss: torch.Tensor  # () float32: the mean of scale_losses
    scale_losses: torch.Tensor  # (num_scales,): photometric + weighted smoothness of each scale
    disparities: tuple[torch.Tensor, ...]  # (B, 1, H/2^s, W/2^s) each, in (0, 1), scale 0 first
    T_source_target: torch.Tensor  # (B, S, 4, 4): p_source = T_source_target @ p_target
    warped: torch.Tensor  # (B, S, 3, H, W): the sources seen from the target, scale 0
    auto_mask: torch.Tensor  # (B, H, W) bool, scale 0: True = the pixel counts


class Prediction(NamedTuple):
    """The depth of one image, at the image's own size."""

    depth: NDArray[np.float32]  # (H, W): m where `is_metric`, else in an unknown unit
    disparity: NDArray[np.float32]  # (H, W), in (0, 1); 1 is the nearest depth that can be said
    is_metric: bool  # whether stereo pairs have taught the model the scale of KITTI's cameras
