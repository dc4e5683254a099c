"""Depth metrics over a whole set of shards, shared among any number of ranks."""

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


class DepthReport(NamedTuple):
    """The metrics of a set of images."""

    metrics: DepthMetrics  # means over the images
    num_images: int
    median_ratio: float  # median over the images of median(true) / median(predicted), unscaled
    ratio_std: float  # standard deviation of these ratios, divided by their median

    def as_dict(self) -> dict[str, float]:
        """Gives all numbers under their names, flat."""
        return self.metrics._asdict() | {
            "num_images": self.num_images,
            "median_ratio": self.median_ratio,
            "ratio_std": self.ratio_std,
        }

    def as_markdown(self) -> str:
        """Gives a table with one row, its columns ordered as in the papers."""
        names = [*DepthMetrics._fields, "images", "median ratio", "ratio std"]
        values = [f"{value:.3f}" for value in (*self.metrics, self.median_ratio, self.ratio_std)]
        values.insert(len(self.metrics), str(self.num_images))
        rows = (names, ["---:"] * len(names), values)
        return "\n".join("| " + " | ".join(row) + " |" for row in rows)


class EvaluationInterrupted(Exception):  # noqa: N818, as KeyboardInterrupt
    """An evaluation was broken off as it was asked to; it says nothing."""


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

    Batches are cut before they are dealt to the ranks, so their composition, and with it every
    figure, is the same for any number of ranks. The ranks meet once, at the end.

    Args:
        predict: maps frames (B, H, W, 3) uint8 to scaled disparity (B, 1, h, w) in 1/m.
        dataset: shards that were packed with ground truth.
        protocol: as for `evaluate_image`.
        scaling: as for `evaluate_image`.
        topology: this rank and the number of ranks that share the work; each calls this function.
        sum_over_ranks: adds up a tensor over them.
        batch_size: images per call of `predict`.
        is_stopping: asked before each batch whether to break off.

    Returns:
        The report, the same on every rank.

    Raises:
        ShardError: if there are no samples, or some rank finds no ground truth or cannot read its
            samples; raised on every rank, and what happened is told by the rank that met it.
        EvaluationError: if some image cannot be compared; raised on every rank alike.
        EvaluationInterrupted: if a rank was asked to stop; raised on every rank alike.
    """
    if batch_size < 1:
        raise EvaluationError(f"a batch of {batch_size} images; expected at least 1")
    if len(dataset) == 0:
        raise ShardError("the shards hold no samples; pack again with another split")
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
            truths = [read_ground_truth(sample) for sample in samples]
        except ShardError as error:  # raised here, it would leave the others waiting for the sum
            failure = error
            table[indices] = torch.inf
            break
        frames = torch.from_numpy(np.stack([sample.frames["0"] for sample in samples]))
        disparities = predict(frames)
        for index, truth, disparity in zip(indices, truths, disparities, strict=True):
            row = _evaluate_image(disparity[0], truth, protocol, scaling)
            table[index] = torch.tensor(row, dtype=torch.float64)
    table = sum_over_ranks(table)
    if failure is not None:
        raise failure
    _refuse_failures(table, dataset)
    if not table.any(1).all():  # no image that was looked at has a row of zeros
        raise EvaluationInterrupted
    metrics = DepthMetrics(*table[:, :-1].mean(0).tolist())
    ratios = table[:, -1].numpy()
    median = float(np.median(ratios))
    return DepthReport(metrics, len(dataset), median, float(np.std(ratios / median)))


def read_ground_truth(sample: Sample) -> np.ndarray:
    """Gives a sample's depth in m, (H, W) at native size, 0 where unknown.

    Raises:
        ShardError: if it was packed without.
    """
    if sample.ground_truth is None:
        raise ShardError(
            f"sample {sample.key} carries no ground truth; "
            "pack the shards again with --ground-truth velodyne or annotated"
        )
    return sample.ground_truth


def with_flip_postprocess(predict: Predictor) -> Predictor:
    """Returns a predictor that blends the predictions of an image and of its mirror image."""

    def predict_both(frames: torch.Tensor) -> torch.Tensor:
        return blend_mirrored(predict(frames), predict(frames.flip(2)).flip(3))

    return predict_both


def blend_mirrored(plain: torch.Tensor, mirrored: torch.Tensor) -> torch.Tensor:
    """Joins the predictions of an image and of its mirror image.

    The left border, where the plain prediction sees no second view, is taken from the mirrored
    one, the right border from the plain one, the middle is the mean of both.

    Args:
        plain: (..., W) scaled disparity, 1/m.
        mirrored: the same of the mirror image, mirrored back.

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
    disparity: torch.Tensor, truth: np.ndarray, protocol: ProtocolName, scaling: Scaling
) -> tuple[float, ...]:
    """Gives the seven metrics and the median ratio; NaN where the image cannot be compared.

    An exception here would leave the other ranks waiting for the sum; NaN passes through it.
    """
    try:
        predicted, true = match_depths(disparity, truth, protocol)
    except EvaluationError:
        return (float("nan"),) * (len(DepthMetrics._fields) + 1)
    factor = depth_factor(predicted, true, scaling)
    return (*measure_depths(predicted * factor, true), median_ratio(predicted, true))


def _refuse_failures(table: torch.Tensor, dataset: ShardDataset) -> None:
    if table.isinf().any():
        raise ShardError("another rank cannot read its samples; its own message says why")
    failed = table.isnan().any(1).nonzero().flatten().tolist()
    if failed:
        raise EvaluationError(
            f"{len(failed)} of {len(dataset)} images cannot be evaluated, the first is "
            f"{dataset[failed[0]].key}: its prediction is not positive and finite, "
            "or no pixel of its ground truth counts"
        )
