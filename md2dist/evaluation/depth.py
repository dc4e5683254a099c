"""Depth metrics of all images of a folder of shards, divided among ranks."""

import math
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch

from md2dist.data.shards.dataset import Sample, ShardDataset
from md2dist.distributed.topology import Topology
from md2dist.errors import EvaluationError, ShardError
from md2dist.evaluation.depth_metrics import (
    DepthMetrics,
    ProtocolName,
    Scaling,
    check_protocol,
    depth_factor,
    match_depths,
    measure_depths,
    median_ratio,
)

Predictor = Callable[[torch.Tensor], torch.Tensor]
_FAILED = (math.nan,) * (len(DepthMetrics._fields) + 1)  # row of an image without metrics


class DepthReport(NamedTuple):
    """Metrics of a set of images."""

    metrics: DepthMetrics  # means over the images
    num_images: int
    median_ratio: float  # median over the images of median(true) / median(predicted), unscaled
    ratio_std: float  # standard deviation of these ratios, divided by their median

    def as_dict(self) -> dict[str, float]:
        """Returns all numbers by name."""
        return self.metrics._asdict() | {
            "num_images": self.num_images,
            "median_ratio": self.median_ratio,
            "ratio_std": self.ratio_std,
        }

    def as_markdown(self) -> str:
        """Returns a table with one row, its columns ordered as in the papers."""
        names = [*DepthMetrics._fields, "images", "median ratio", "ratio std"]
        values = [f"{value:.3f}" for value in (*self.metrics, self.median_ratio, self.ratio_std)]
        values.insert(len(self.metrics), str(self.num_images))
        rows = (names, ["---:"] * len(names), values)
        return "\n".join("| " + " | ".join(row) + " |" for row in rows)


class EvaluationInterrupted(Exception):  # noqa: N818, as KeyboardInterrupt
    """Raised when an evaluation was stopped on request."""


def evaluate_depth(
    predict: Predictor,
    dataset: ShardDataset,
    *,
    protocol: ProtocolName,
    scaling: Scaling,
    topology: Topology = Topology(),
    sum_over_ranks: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor,
    batch_size: int = 8,
    is_stopping: Callable[[], bool] = lambda: False,
) -> DepthReport:
    """Evaluates a predictor on every sample of a data set, each exactly once.

    Batches are formed before they are distributed to the ranks, so their composition, and with it
    every metric, is the same for any number of ranks. The ranks synchronise once, at the end.

    Args:
        predict: maps frames (B, H, W, 3) uint8 to scaled disparity (B, 1, h, w) in 1/m.
        dataset: shards with ground truth.
        protocol: as for `evaluate_image`.
        scaling: as for `evaluate_image`.
        topology: this rank and the number of ranks that share the work; each calls this function.
        sum_over_ranks: sums a tensor over the ranks.
        batch_size: images per call of `predict`.
        is_stopping: called before each batch; True interrupts the evaluation.

    Returns:
        The report, the same on every rank.

    Raises:
        ShardError: if there are no samples, or a rank finds no ground truth or cannot read its
            samples; raised on every rank, with the reason on the rank concerned.
        EvaluationError: if an image cannot be evaluated; raised on every rank.
        EvaluationInterrupted: if a rank is stopping; raised on every rank.
    """
    if batch_size < 1:
        raise EvaluationError(f"batch size {batch_size}: expected >= 1")
    if len(dataset) == 0:
        raise ShardError("the shards have no samples; pack again with another split")
    check_protocol(protocol)
    table = torch.zeros(len(dataset), len(DepthMetrics._fields) + 1, dtype=torch.float64)
    batches = [
        range(start, min(start + batch_size, len(dataset)))
        for start in range(0, len(dataset), batch_size)
    ][topology.rank :: topology.world_size]
    coming = dataset.samples([index for batch in batches for index in batch], topology.world_size)
    failure = None
    for indices in batches:
        if is_stopping():
            break
        try:
            samples = list(islice(coming, len(indices)))
            ground_truths = [read_ground_truth(sample) for sample in samples]
        except ShardError as error:  # raising here would leave the other ranks waiting for the sum
            failure = error
            table[indices] = torch.inf
            break
        frames = torch.from_numpy(np.stack([sample.frames["0"] for sample in samples]))
        disparities = predict(frames)
        for index, ground_truth, disparity in zip(indices, ground_truths, disparities, strict=True):
            row = _evaluate_image(disparity[0], ground_truth, protocol, scaling)
            table[index] = torch.tensor(row, dtype=torch.float64)
    table = sum_over_ranks(table)
    if failure is not None:
        raise failure
    _refuse_failures(table, dataset)
    if not table.any(1).all():  # an evaluated image has no row of zeros
        raise EvaluationInterrupted
    metrics = DepthMetrics(*table[:, :-1].mean(0).tolist())
    ratios = table[:, -1].numpy()
    median = float(np.median(ratios))
    return DepthReport(metrics, len(dataset), median, float(np.std(ratios / median)))


def read_ground_truth(sample: Sample) -> np.ndarray:
    """Returns a sample's depth (H, W) in m at native size, 0 where unknown.

    Raises:
        ShardError: if it has none.
    """
    if sample.ground_truth is None:
        raise ShardError(
            f"sample {sample.key} has no ground truth; "
            "pack the shards again with --ground-truth velodyne or annotated"
        )
    return sample.ground_truth


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


def _evaluate_image(
    disparity: torch.Tensor, ground_truth: np.ndarray, protocol: ProtocolName, scaling: Scaling
) -> tuple[float, ...]:
    """Returns the seven metrics and the median ratio of disparity (h, w) and ground truth (H, W).

    All are NaN if the image cannot be evaluated, or a metric is not finite.

    An exception would leave the other ranks waiting for the sum; NaN passes through it.
    """
    try:
        predicted, true = match_depths(disparity, ground_truth, protocol)
    except EvaluationError:
        return _FAILED
    factor = depth_factor(predicted, true, scaling)
    with np.errstate(invalid="ignore"):  # of an infinite ground truth
        row = (*measure_depths(predicted * factor, true), median_ratio(predicted, true))
    return row if all(map(math.isfinite, row)) else _FAILED


def _refuse_failures(table: torch.Tensor, dataset: ShardDataset) -> None:
    """Raises if a row of the table (num_images, 8) reports a failure."""
    if table.isinf().any():
        raise ShardError("another rank cannot read its samples; its message has the reason")
    failed = table.isnan().any(1).nonzero().flatten().tolist()
    if failed:
        raise EvaluationError(
            f"{len(failed)} of {len(dataset)} images cannot be evaluated, the first is "
            f"{dataset[failed[0]].key}: its prediction is not positive and finite, "
            "or its ground truth has no valid pixel, or an infinite one"
        )
