"""Depth metrics of one image against sparse ground truth, in float64.

`match_depths` selects the valid pixels, `median_ratio` finds the scale that a monocular prediction
lacks, `measure_depths` compares; `evaluate_image` does all three.
"""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from md2dist.errors import EvaluationError, ShapeError

ProtocolName = Literal["eigen", "eigen_benchmark", "uncropped"]
Scaling = float | Literal["median"]
Word = TypeVar("Word")
Map = NDArray[np.floating] | torch.Tensor

MIN_DEPTH, MAX_DEPTH = 1e-3, 80.0  # m

# Fractions of height and width between which Garg et al. (ECCV 2016) compare.
_CROP_ROWS = (0.40810811, 0.99189189)
_CROP_COLUMNS = (0.03594771, 0.96405229)


class DepthMetrics(NamedTuple):
    """The metrics of Eigen et al. (2014); the first four are errors, the last three accuracies."""

    abs_rel: float  # mean |d - gt| / gt
    sq_rel: float  # mean (d - gt)^2 / gt, m
    rmse: float  # m
    rmse_log: float  # of the natural logarithms
    a1: float  # share of pixels with max(d / gt, gt / d) < 1.25
    a2: float  # the same below 1.25^2
    a3: float  # the same below 1.25^3


def evaluate_image(
    scaled_disparity: Map,
    ground_truth: Map,
    protocol: ProtocolName = "eigen",
    scaling: Scaling = "median",
) -> DepthMetrics:
    """Compares a predicted map with the ground truth of its image.

    Args:
        scaled_disparity: (h, w) in 1/m, any size; resized bilinearly to that of the ground truth.
        ground_truth: (H, W) in m, 0 where unknown.
        protocol: ``eigen`` (projected velodyne, cropped, below 80 m), ``eigen_benchmark``
            (annotated depth, every known pixel) or ``uncropped`` (other cameras, every pixel
            below 80 m).
        scaling: ``median`` scales the prediction to the median of the ground truth; a number
            multiplies the depth instead (5.4 for models trained with stereo).

    Returns:
        The seven metrics, means over the valid pixels.

    Raises:
        ShapeError: if one of the maps is not two-dimensional.
        EvaluationError: if no pixel is valid, the prediction is not positive and finite, or the
            protocol or the scaling is unknown.

    Source: Eigen et al., NeurIPS 2014, section 4.1; scaling: Zhou et al., CVPR 2017, section 4.1.
    """
    predicted, true = match_depths(scaled_disparity, ground_truth, protocol)
    return measure_depths(predicted * depth_factor(predicted, true, scaling), true)


def match_depths(
    scaled_disparity: Map, ground_truth: Map, protocol: ProtocolName = "eigen"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns predicted and true depth, each (P,) in m, of the P valid pixels.

    Arguments and errors are those of `evaluate_image`.
    """
    disparity = _to_float64(scaled_disparity, "scaled_disparity")
    true = _to_float64(ground_truth, "ground_truth")
    mask = valid_pixels(true, protocol)
    chosen = _sample_resized(disparity, mask)
    is_usable = np.isfinite(chosen) & (chosen > 0)
    if not is_usable.all():
        raise EvaluationError(
            f"the scaled disparity is not positive and finite at {np.sum(~is_usable)} of "
            f"{is_usable.size} valid pixels"
        )
    return 1 / chosen, true[mask]


def valid_pixels(
    ground_truth: NDArray[np.floating], protocol: ProtocolName = "eigen"
) -> NDArray[np.bool_]:
    """Returns the mask of valid pixels.

    Args:
        ground_truth: (H, W) in m, 0 where unknown.
        protocol: as for `evaluate_image`.

    Returns:
        (H, W), True at least once.

    Raises:
        EvaluationError: if no pixel is valid, or the protocol is unknown.
    """
    check_protocol(protocol)
    mask = np.zeros(ground_truth.shape, dtype=bool)
    if protocol == "eigen":
        height, width = ground_truth.shape
        top, bottom = (int(fraction * height) for fraction in _CROP_ROWS)
        left, right = (int(fraction * width) for fraction in _CROP_COLUMNS)
        inside = ground_truth[top:bottom, left:right]
        mask[top:bottom, left:right] = (inside > MIN_DEPTH) & (inside < MAX_DEPTH)
    elif protocol == "uncropped":
        mask[:] = (ground_truth > MIN_DEPTH) & (ground_truth < MAX_DEPTH)
    else:
        mask[:] = ground_truth > 0
    if not mask.any():
        raise EvaluationError(
            f"no pixel of the ground truth {ground_truth.shape} is valid for protocol {protocol}; "
            "expected depth in m, 0 where unknown"
        )
    return mask


def check_protocol(protocol: str) -> None:
    """Checks the name of a protocol.

    Raises:
        EvaluationError: if there is no such protocol.
    """
    if protocol not in get_args(ProtocolName):
        known = ", ".join(get_args(ProtocolName))
        raise EvaluationError(f"protocol {protocol!r}: expected one of {known}")


def median_ratio(predicted: NDArray[np.floating], true: NDArray[np.floating]) -> float:
    """Returns median(true) / median(predicted), the scale of a monocular prediction; each (P,)."""
    return float(np.median(true) / np.median(predicted))


def depth_factor(
    predicted: NDArray[np.floating], true: NDArray[np.floating], scaling: Scaling
) -> float:
    """Returns the factor by which a scaling multiplies the predicted depths, each (P,) in m.

    Raises:
        EvaluationError: if the scaling is neither ``median`` nor a positive number.
    """
    if scaling == "median":
        return median_ratio(predicted, true)
    if isinstance(scaling, str) or not 0 < scaling < math.inf:
        raise EvaluationError(f"scaling {scaling!r}: expected median or a positive number")
    return float(scaling)


def read_scaling(text: str, words: Mapping[str, Word]) -> Word | float:
    """Parses the scaling of a command: one of some words, or a positive number.

    Args:
        text: the argument of the option.
        words: value of each word.

    Raises:
        EvaluationError: if it is neither.
    """
    if text in words:
        return words[text]
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor < math.inf:
        raise EvaluationError(f"scaling {text!r}: expected {', '.join(words)} or a positive number")
    return factor


def measure_depths(predicted: NDArray[np.floating], true: NDArray[np.floating]) -> DepthMetrics:
    """Compares depths, each (P,) in m; the predicted ones are clamped to 1e-3..80 m first.

    Source: Eigen et al., NeurIPS 2014, section 4.1.
    """
    predicted = np.clip(predicted, MIN_DEPTH, MAX_DEPTH)
    difference = predicted - true
    log_difference = np.log(predicted) - np.log(true)
    worse_ratio = np.maximum(predicted / true, true / predicted)
    return DepthMetrics(
        abs_rel=float(np.mean(np.abs(difference) / true)),
        sq_rel=float(np.mean(difference**2 / true)),
        rmse=float(np.sqrt(np.mean(difference**2))),
        rmse_log=float(np.sqrt(np.mean(log_difference**2))),
        a1=float(np.mean(worse_ratio < 1.25)),
        a2=float(np.mean(worse_ratio < 1.25**2)),
        a3=float(np.mean(worse_ratio < 1.25**3)),
    )


def _sample_resized(disparity: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Resizes a map (h, w) bilinearly to (H, W), and returns the (P,) pixels of a mask (H, W).

    Centres are at half pixels, without antialiasing, as in OpenCV's INTER_LINEAR. Only the chosen
    pixels are computed: of projected laser scans, one in twenty.
    """
    chosen = np.nonzero(mask)
    low, high, share = [], [], []
    for size, full, positions in zip(disparity.shape, mask.shape, chosen, strict=True):
        places = np.maximum((np.arange(full) + 0.5) * (size / full) - 0.5, 0)
        first = places.astype(np.intp)
        low.append(first[positions])
        high.append(np.minimum(first + 1, size - 1)[positions])
        share.append((places - first)[positions])
    (top, left), (bottom, right), (down, across) = low, high, share
    with np.errstate(invalid="ignore"):  # of values that are not finite, which the caller refuses
        upper = (1 - across) * disparity[top, left] + across * disparity[top, right]
        lower = (1 - across) * disparity[bottom, left] + across * disparity[bottom, right]
        return (1 - down) * upper + down * lower


def _to_float64(values: Map, name: str) -> NDArray[np.float64]:
    """Converts a map (H, W)."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().double().numpy()
    array = np.array(values, dtype=np.float64)
    if array.ndim != 2:
        raise ShapeError(f"{name} has shape {array.shape}; expected (H, W), a single map")
    return array
