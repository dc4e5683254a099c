"""Scores of images: depth metrics of each, and their means over all images or those of a drive."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from md2dist.evaluation.depth_metrics import DepthMetrics

NAMES = (*DepthMetrics._fields, "num_images", "median_ratio", "ratio_std")


class DepthReport(NamedTuple):
    """Metrics of a set of images."""

    metrics: DepthMetrics  # means over the images
    num_images: int
    median_ratio: float  # median over the images of median(true) / median(predicted), unscaled
    ratio_std: float  # standard deviation of these ratios, divided by their median

    def as_dict(self) -> dict[str, float]:
        """Returns all numbers by name."""
        return dict(zip(NAMES, (*self.metrics, *self[1:]), strict=True))


class ImageScore(NamedTuple):
    """Metrics of one image, with one of several scalings."""

    key: str  # of the sample
    drive: str
    frame: int
    side: str  # l is camera 2, r is camera 3
    metrics: DepthMetrics
    factor: float  # by which the predicted depth was multiplied
    median_ratio: float  # median(true) / median(predicted), unscaled

    def is_finite(self) -> bool:
        """Returns whether all numbers are finite; they are not if the ground truth is not."""
        return all(map(math.isfinite, (*self.metrics, self.factor, self.median_ratio)))

    def as_dict(self) -> dict[str, str | float]:
        """Returns all values by name, the metrics among them."""
        values = self._asdict() | self.metrics._asdict()
        del values["metrics"]
        return values


def list_worst(scores: Sequence[ImageScore], count: int) -> list[int]:
    """Returns the numbers of the images with the largest abs_rel, the largest first."""
    return sorted(range(len(scores)), key=lambda index: -scores[index].metrics.abs_rel)[:count]


def summarise(scores: Sequence[ImageScore]) -> DepthReport:
    """Returns the means over images, of which there is at least one."""
    means = np.mean([score.metrics for score in scores], axis=0)
    ratios = np.array([score.median_ratio for score in scores])
    median = float(np.median(ratios))
    return DepthReport(
        DepthMetrics(*means.tolist()), len(scores), median, float(np.std(ratios / median))
    )


def summarise_drives(scores: Sequence[ImageScore]) -> dict[str, DepthReport]:
    """Returns the means over the images of each drive, sorted by its name."""
    drives = sorted({score.drive for score in scores})
    return {
        drive: summarise([score for score in scores if score.drive == drive]) for drive in drives
    }
