"""Alignment of predicted with true positions: by scale alone, or by rotation, shift and scale."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Similarity(NamedTuple):
    """A similarity transform, element of Sim(3): x -> scale * rotation @ x + translation."""

    scale: float  # >= 0
    rotation: NDArray[np.float64]  # (3, 3), determinant 1
    translation: NDArray[np.float64]  # (3,)

    def apply(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Transforms points (N, 3)."""
        return self.scale * points @ self.rotation.T + self.translation


def fit_scale(predicted: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    """Returns the factor with which predicted positions fit true ones best, by least squares.

    Args:
        predicted: (N, 3), in coordinates whose origin is the same place as that of `true`.
        true: (N, 3), m.

    Returns:
        The factor; 0 if no predicted position differs from the origin, and negative if the
        prediction runs backwards.
    """
    power = np.sum(predicted**2)
    return float(np.sum(true * predicted) / power) if power > 0 else 0.0


def fit_similarity(predicted: NDArray[np.float64], true: NDArray[np.float64]) -> Similarity:
    """Returns the similarity transform that fits predicted positions to true ones best.

    Args:
        predicted: (N, 3), in any coordinates and scale.
        true: (N, 3), m.

    Returns:
        The minimiser of the summed squared distances; scale 0 if all predicted positions are equal.

    Source: Umeyama, "Least-squares estimation of transformation parameters between two point
        patterns", PAMI 1991, equations 40 to 42.
    """
    predicted_mean, true_mean = predicted.mean(0), true.mean(0)
    centred_prediction, centred_truth = predicted - predicted_mean, true - true_mean
    power = np.sum(centred_prediction**2)
    U, singular, Vt = np.linalg.svd(centred_truth.T @ centred_prediction)
    signs = np.ones(3)
    if np.linalg.det(U) * np.linalg.det(Vt) < 0:  # the best orthogonal matrix is a reflection
        signs[2] = -1
    rotation = U * signs @ Vt
    scale = float(singular @ signs / power) if power > 0 else 0.0
    return Similarity(scale, rotation, true_mean - scale * rotation @ predicted_mean)


def trajectory_error(predicted: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    """Returns the absolute trajectory error (ATE) of aligned positions, each (N, 3), in m.

    It is the root of the mean squared distance.

    Source: Sturm et al., "A Benchmark for the Evaluation of RGB-D SLAM Systems", IROS 2012.
    """
    return float(np.sqrt(np.mean(np.sum((predicted - true) ** 2, axis=1))))
