"""Drift over segments of 100 to 800 m, the odometry metric of KITTI's development kit."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from md2dist.evaluation.trajectory import travelled_distances

LENGTHS = (100, 200, 300, 400, 500, 600, 700, 800)  # m
STEP = 10  # frames from the start of a segment to that of the next one: a second


class Drift(NamedTuple):
    """Mean errors of segments, relative to their length."""

    t_rel: float  # translation, %
    r_rel: float  # rotation, degrees per 100 m
    num_segments: int


def measure_drift(
    predicted: NDArray[np.float64], true: NDArray[np.float64]
) -> tuple[Drift | None, Mapping[int, Drift]]:
    """Measures how far the end of each segment deviates if its start is aligned.

    A segment starts at every tenth frame, for each length, and ends at the first frame that is
    more than that length away along the true path.

    Args:
        predicted: (N, 4, 4) poses, camera to first camera, in metres.
        true: (N, 4, 4), likewise.

    Returns:
        The drift over all segments, None if the path is too short for any; and the drift over the
        segments of each length in m, of which there are any.

    Source: Geiger et al., CVPR 2012, section 3.1, with the lengths and the step of the
        development kit of KITTI odometry.
    """
    distances = travelled_distances(true)
    errors = {
        length: np.array(
            [
                _segment_error(predicted[[start, end]], true[[start, end]], length)
                for start in range(0, len(true), STEP)
                # The first frame whose distance exceeds that of the start by more than the length.
                for end in [np.searchsorted(distances, distances[start] + length, side="right")]
                if end < len(true)
            ]
        )
        for length in LENGTHS
    }
    errors = {length: rows for length, rows in errors.items() if len(rows)}
    if not errors:
        return None, {}
    by_length = {length: _mean_drift(rows) for length, rows in errors.items()}
    return _mean_drift(np.concatenate(list(errors.values()))), by_length


def _segment_error(
    predicted: NDArray[np.float64], true: NDArray[np.float64], length: int
) -> tuple[float, float]:
    """Returns the errors of a segment from its first and last poses, each (2, 4, 4).

    They are that of the translation, a fraction of the length, and of the rotation, in rad/m.
    """
    predicted_motion = np.linalg.inv(predicted[0]) @ predicted[1]
    true_motion = np.linalg.inv(true[0]) @ true[1]
    error = np.linalg.inv(predicted_motion) @ true_motion
    angle = np.arccos(np.clip((np.trace(error[:3, :3]) - 1) / 2, -1, 1))
    return float(np.linalg.norm(error[:3, 3])) / length, float(angle) / length


def _mean_drift(errors: NDArray[np.float64]) -> Drift:
    """Averages errors (num_segments, 2) per metre."""
    translation, rotation = errors.mean(0)
    return Drift(float(100 * translation), float(np.degrees(100 * rotation)), len(errors))
