"""Depth metrics of all images of a folder of shards, divided among ranks."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from md2dist.conventions import STEREO_BASELINE
from md2dist.data.shards.dataset import Sample, ShardDataset
from md2dist.data.shards.recipe import GROUND_TRUTH_REMEDY
from md2dist.distributed.topology import Topology
from md2dist.errors import EvaluationError, Md2distError, ShardError
from md2dist.evaluation.depth_metrics import (
    Map,
    ProtocolName,
    Scaling,
    check_protocol,
    depth_factor,
    match_depths,
    measure_depths,
    median_ratio,
)
from md2dist.evaluation.depth_scores import DepthReport, ImageScore, summarise
from md2dist.evaluation.flip_postprocess import Predictor
from md2dist.pipeline import run_pipeline

# `calibrated`: the baseline of the image's own cameras over the one of training.
ImageScaling = Scaling | Literal["calibrated"]
# Maps sample numbers and samples to the scaled disparity (h, w) of each in 1/m, or to the error of
# one that has none.
SamplePredictor = Callable[[Sequence[int], Sequence[Sample]], Iterable[Map | EvaluationError]]
Gather = Callable[[Any], list[Any]]
_NUM_NAMED = 5  # images without metrics that an error names


class EvaluationInterrupted(Exception):  # noqa: N818, as KeyboardInterrupt
    """Raised when an evaluation was stopped on request."""


class _Prepared(NamedTuple):
    """A decoded sample."""

    index: int
    sample: Sample
    ground_truth: np.ndarray  # (H, W) in m, 0 where unknown


class _Part(NamedTuple):
    """Result of one rank."""

    scores: dict[int, list[ImageScore]]  # by number of the sample, for each scaling
    failures: dict[int, tuple[str, str]]  # key and reason of samples that cannot be evaluated
    error: Md2distError | None  # that ended the work of this rank
    is_stopped: bool


def evaluate_depth(
    predict: Predictor,
    dataset: ShardDataset,
    *,
    protocol: ProtocolName,
    scaling: Scaling,
    topology: Topology = Topology(),
    gather: Gather = lambda part: [part],
    batch_size: int = 8,
    is_stopping: Callable[[], bool] = lambda: False,
) -> DepthReport:
    """Evaluates a predictor of frames on every sample of a data set, each exactly once.

    Args:
        predict: maps frames (B, H, W, 3) uint8 to scaled disparity (B, 1, h, w) in 1/m.
        dataset: shards with ground truth.
        protocol: as for `evaluate_image`.
        scaling: as for `evaluate_image`.
        topology: as for `score_depth`, like all that follow and the errors.
        gather: as there.
        batch_size: as there.
        is_stopping: as there.

    Returns:
        The report, the same on every rank.
    """
    scores = score_depth(
        with_frames(predict),
        dataset,
        protocol=protocol,
        scalings=[scaling],
        topology=topology,
        gather=gather,
        batch_size=batch_size,
        is_stopping=is_stopping,
    )
    return summarise(scores[0])


def with_frames(predict: Predictor) -> SamplePredictor:
    """Adapts a predictor of frames (B, H, W, 3) uint8 to samples, for `score_depth`."""

    def predict_samples(indices: Sequence[int], samples: Sequence[Sample]) -> list[torch.Tensor]:
        """Returns the scaled disparity (h, w) of each sample."""
        frames = torch.from_numpy(np.stack([sample.frames["0"] for sample in samples]))
        return [disparity[0] for disparity in predict(frames).cpu()]

    return predict_samples


def score_depth(
    predict: SamplePredictor,
    dataset: ShardDataset,
    *,
    protocol: ProtocolName,
    scalings: Sequence[ImageScaling],
    topology: Topology = Topology(),
    gather: Gather = lambda part: [part],
    batch_size: int = 8,
    is_stopping: Callable[[], bool] = lambda: False,
) -> list[list[ImageScore]]:
    """Scores every sample of a data set, each exactly once.

    Batches are formed before they are distributed to the ranks, so their composition, and with it
    every metric, is the same for any number of ranks. The ranks synchronise once, at the end.

    Args:
        predict: predictor of samples.
        dataset: shards with ground truth.
        protocol: as for `evaluate_image`.
        scalings: each as for `evaluate_image`, or ``calibrated``.
        topology: this rank and the number of ranks that share the work; each calls this function.
        gather: returns a list of the values that all ranks pass to it, by rank.
        batch_size: images per call of `predict`.
        is_stopping: called before each batch; True interrupts the evaluation.

    Returns:
        For each scaling: the score of each sample, in order; the same on every rank.

    Raises:
        ShardError: if there are no samples, or a rank finds no ground truth or cannot read its
            samples; raised on every rank.
        EvaluationError: if images cannot be evaluated; raised on every rank.
        EvaluationInterrupted: if a rank is stopping; raised on every rank.
    """
    if batch_size < 1:
        raise EvaluationError(f"batch size {batch_size}: expected >= 1")
    if len(dataset) == 0:
        raise ShardError("the shards have no samples; pack again with another split")
    check_protocol(protocol)
    batches = [
        range(start, min(start + batch_size, len(dataset)))
        for start in range(0, len(dataset), batch_size)
    ][topology.rank :: topology.world_size]
    scores: dict[int, list[ImageScore]] = {}
    failures: dict[int, tuple[str, str]] = {}
    caught, is_stopped = None, False

    def coming() -> Iterator[Iterable[tuple[int, dict[str, Any]]]]:
        nonlocal is_stopped
        indices = [index for batch in batches for index in batch]
        members = dataset.stream(indices, topology.world_size)
        for batch in batches:
            if is_stopping():
                is_stopped = True
                return
            yield zip(batch, islice(members, len(batch)), strict=True)

    def prepare(item: tuple[int, dict[str, Any]]) -> _Prepared:
        """Decodes a sample and its ground truth (H, W)."""
        sample = dataset.decode(*item)
        return _Prepared(item[0], sample, read_ground_truth(sample))

    def compute(prepared: list[_Prepared]) -> Iterable[Map | EvaluationError]:
        """Returns the scaled disparity (h, w) of each sample."""
        return predict([one.index for one in prepared], [one.sample for one in prepared])

    def finish(one: _Prepared, disparity: Map | EvaluationError) -> None:
        """Scores the scaled disparity (h, w) of a sample."""
        try:
            scores[one.index] = _score_image(
                disparity, one.sample, one.ground_truth, protocol, scalings
            )
        except EvaluationError as error:
            failures[one.index] = (one.sample.key, str(error))

    try:
        deque(run_pipeline(coming(), prepare, compute, finish), maxlen=0)
    except Md2distError as error:  # raised after the ranks have met
        caught = error
    parts: list[_Part] = gather(_Part(scores, failures, caught, is_stopped))
    _refuse_failures(parts, len(dataset))
    rows = {index: row for part in parts for index, row in part.scores.items()}
    ordered = [rows[index] for index in range(len(dataset))]
    return [[row[number] for row in ordered] for number in range(len(scalings))]


def read_ground_truth(sample: Sample) -> np.ndarray:
    """Returns a sample's depth (H, W) in m at native size, 0 where unknown.

    Raises:
        ShardError: if it has none.
    """
    if sample.ground_truth is None:
        raise ShardError(
            f"sample {sample.key} has no ground truth; pack the shards again with "
            f"{GROUND_TRUTH_REMEDY}"
        )
    return sample.ground_truth


def _score_image(
    disparity: Map | EvaluationError,
    sample: Sample,
    ground_truth: np.ndarray,
    protocol: ProtocolName,
    scalings: Sequence[ImageScaling],
) -> list[ImageScore]:
    """Scores scaled disparity (h, w) against ground truth (H, W), with each scaling.

    Raises:
        EvaluationError: if they cannot be compared, or a metric is not finite.
    """
    if isinstance(disparity, EvaluationError):
        raise disparity
    predicted, true = match_depths(disparity, ground_truth, protocol)
    ratio = median_ratio(predicted, true)
    scores = []
    for scaling in scalings:
        if scaling == "calibrated":
            factor = _calibrated_factor(sample)
        else:
            factor = depth_factor(predicted, true, scaling)
        with np.errstate(invalid="ignore", over="ignore"):  # of an infinite ground truth
            metrics = measure_depths(predicted * factor, true)
        drive, frame, side = (sample.info[name] for name in ("drive", "frame", "side"))
        score = ImageScore(sample.key, drive, frame, side, metrics, factor, ratio)
        if not score.is_finite():
            raise EvaluationError("its ground truth has an infinite pixel")
        scores.append(score)
    return scores


def _calibrated_factor(sample: Sample) -> float:
    baseline = sample.info["baseline"]
    if baseline <= 0:
        raise EvaluationError(f"its cameras have the baseline {baseline:g} m; expected > 0")
    return baseline / STEREO_BASELINE


def _refuse_failures(parts: Sequence[_Part], num_samples: int) -> None:
    """Raises what ended the work of a rank, or else an error that names images without metrics."""
    for rank, part in enumerate(parts):
        if part.error is not None:
            place = f"rank {rank}: " * (len(parts) > 1)
            raise type(part.error)(f"{place}{part.error}")
    failures = dict(sorted(pair for part in parts for pair in part.failures.items()))
    if failures:
        (first, reason), *others = failures.values()
        named = ", ".join(key for key, _ in others[: _NUM_NAMED - 1])
        more = ", ..." * (len(others) >= _NUM_NAMED)
        raise EvaluationError(
            f"{len(failures)} of {num_samples} images cannot be evaluated, the first is {first}: "
            f"{reason}" + f"; the others are {named}{more}" * bool(others)
        )
    if any(part.is_stopped for part in parts):
        raise EvaluationInterrupted
