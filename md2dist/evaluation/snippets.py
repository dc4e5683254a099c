"""Trajectory error of 5-frame snippets, the odometry metric of self-supervised methods."""

import numpy as np
import torch
from numpy.typing import NDArray

from md2dist.errors import ShapeError
from md2dist.evaluation.alignment import fit_scale
from md2dist.evaluation.trajectory import relative_to_first

SNIPPET_FRAMES = 5


def snippet_ate(
    pred_T: NDArray[np.floating] | torch.Tensor, gt_poses: NDArray[np.floating] | torch.Tensor
) -> NDArray[np.float64]:
    """Measures the distance of predicted from true positions in each 5-frame window.

    Every frame but the last starts a window; the last three windows are shorter. One scale per
    window is fitted, since monocular translation has none.

    Args:
        pred_T: (N-1, 4, 4), point transforms of frame i to frame i+1, in any scale.
        gt_poses: (N, 3, 4), camera-to-world poses of KITTI odometry, m.

    Returns:
        (N-1,) float64: for each window the root of the summed squared distances, divided by
        the number of its positions; m.

    Raises:
        ShapeError: if a shape is wrong or the numbers of frames do not fit.

    Source: Zhou et al., CVPR 2017, section 4.3.
    """
    predicted = np.asarray(pred_T, dtype=np.float64)
    poses = np.asarray(gt_poses, dtype=np.float64)
    num_frames = len(poses) if poses.ndim else 0
    if num_frames < 2 or poses.shape[1:] != (3, 4) or predicted.shape != (num_frames - 1, 4, 4):
        raise ShapeError(
            f"pred_T has shape {predicted.shape} and gt_poses {poses.shape}; "
            "expected (N-1, 4, 4) and (N, 3, 4) with at least two frames"
        )
    true = _relative_transforms(poses)
    num_steps = SNIPPET_FRAMES - 1
    return np.array(
        [
            _aligned_error(
                _positions(predicted[start : start + num_steps]),
                _positions(true[start : start + num_steps]),
            )
            for start in range(num_frames - 1)
        ]
    )


def _relative_transforms(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Converts camera-to-world poses (N, 3, 4) to transforms (N-1, 4, 4) to the next frame."""
    relative = relative_to_first(poses)
    return np.linalg.inv(relative[1:]) @ relative[:-1]


def _positions(transforms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Chains transforms (n, 4, 4); returns positions (n+1, 3), the first at the origin."""
    chain = np.eye(4)
    positions = [chain[:3, 3]]
    for transform in transforms:
        chain = chain @ transform
        positions.append(chain[:3, 3])
    return np.stack(positions)


def _aligned_error(predicted: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    """Compares positions (n+1, 3); both start at the origin, which is the common start."""
    scale = fit_scale(predicted, true)
    return float(np.sqrt(np.sum((scale * predicted - true) ** 2)) / len(true))
