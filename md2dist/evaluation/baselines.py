"""Baselines: depth predictions that do not use the image.

Both baselines are the exact minimisers of the mean abs_rel over their training images. With the
error |d - gt| / gt, averaged per image and then over images, the best depth is a weighted median.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from md2dist.data.shards.dataset import ShardDataset
from md2dist.evaluation.depth import read_ground_truth
from md2dist.evaluation.depth_metrics import ProtocolName, valid_pixels


@dataclass(frozen=True)
class RowProfile:
    """A predictor for `evaluate_depth` with one depth per row; evaluate it with a scaling of 1.

    Rows are relative: the profile is stretched to the height of the image.
    """

    depths: NDArray[np.float64]  # (R,) true metres, top row first

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        """Maps frames (B, H, W, 3) to the same scaled disparity (B, 1, R, 1) in 1/m for each."""
        disparity = torch.from_numpy(1 / self.depths)
        return disparity.reshape(1, 1, -1, 1).expand(len(frames), -1, -1, -1)


def fit_constant(dataset: ShardDataset, *, protocol: ProtocolName = "eigen") -> RowProfile:
    """Fits the constant depth with the least mean abs_rel over all images.

    Args:
        dataset: training shards with ground truth.
        protocol: as for `evaluate_image`.

    Raises:
        ShardError: if there is no ground truth.
        EvaluationError: if an image has no valid pixel.
    """
    return _fit_rows(dataset, 1, protocol)


def fit_row_profile(dataset: ShardDataset, *, protocol: ProtocolName = "eigen") -> RowProfile:
    """Fits the depth of each row with the least mean abs_rel over all images.

    Rows are those of the first image's ground truth; rows without valid pixels are
    interpolated between their neighbours. Arguments and errors are those of `fit_constant`.
    """
    return _fit_rows(dataset, len(read_ground_truth(dataset[0])), protocol)


def weighted_median(values: NDArray[np.floating], weights: NDArray[np.floating]) -> float:
    """Returns a minimiser of sum(weights * |x - values|), the smallest among the values.

    Args:
        values: (N,), at least one.
        weights: (N,), positive.
    """
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(cumulative, cumulative[-1] / 2)]])


def _fit_rows(dataset: ShardDataset, num_rows: int, protocol: ProtocolName) -> RowProfile:
    rows, depths, weights = _gather_points(dataset, num_rows, protocol)
    order = np.argsort(rows, kind="stable")
    known, starts = np.unique(rows[order], return_index=True)
    medians = [
        weighted_median(depths[points], weights[points]) for points in np.split(order, starts[1:])
    ]
    return RowProfile(np.interp(np.arange(num_rows), known, medians))


def _gather_points(
    dataset: ShardDataset, num_rows: int, protocol: ProtocolName
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float64]]:
    """Returns row, depth in m and weight in the mean abs_rel of every valid pixel, each (P,)."""
    rows, depths, weights = [], [], []
    for index in range(len(dataset)):
        true = read_ground_truth(dataset[index])
        mask = valid_pixels(true, protocol)
        height = len(true)
        row = np.nonzero(mask)[0]
        depth = true[mask]
        rows.append(((2 * row + 1) * num_rows // (2 * height)).astype(np.int32))
        depths.append(depth)
        weights.append(1 / (len(depth) * depth.astype(np.float64)))
    return np.concatenate(rows), np.concatenate(depths), np.concatenate(weights)
