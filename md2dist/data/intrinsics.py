"""Plausibility of a camera: intrinsics for an image of a known size, and the stereo baseline.

The one check for packing, verification and reading: bounds that every camera of a car satisfies,
and fractions, or the K of another image size, do not.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

# KITTI has about FOCAL_LENGTHS of `conventions`, and its principal point within 5 % of the centre.
_FOCAL_LENGTH = (0.2, 5.0)  # in image widths and heights
# In image widths, and in heights, of which a crop of sky or bonnet moves it. Of a K for half or for
# twice the size, it is at 0.25 or 1.
_PRINCIPAL_POINT = ((0.35, 0.65), (0.25, 0.75))
_PIXEL_ASPECT = 4.0  # fx over fy, or its inverse: 1, or 2.5 for files that were 4:3, now 640x192
_BASELINE = (0.01, 2.0)  # m
_REMEDY = "K of another image size?"


class Camera(NamedTuple):
    """A rectified camera, and its entries in the file that it was read from, for messages."""

    K: np.ndarray  # (3, 3) float64, pixel centres at integers
    size: tuple[int, int] | None  # height and width in pixels for which K holds; None: the image's
    baseline: float  # distance to the other camera, m; not finite or 0 if there is none
    name: str  # of the entry with K
    pair: str  # of the entries with the baseline


def check_intrinsics(
    K: ArrayLike, size: tuple[int, int] | None, native_size: tuple[int, int] | None = None
) -> Iterator[str]:
    """Finds faults of a camera matrix.

    Args:
        K: (3, 3) in pixels of an image of that size, pixel centres at integers.
        size: height and width of the image in pixels; None: unknown.
        native_size: height and width of the camera's image, in whose pixels the two focal lengths
            are similar; None: as `size`.

    Yields:
        The faults as text, which continues the name of K.
    """
    K = np.asarray(K, np.float64)
    if not np.isfinite(K).all():
        yield f"is not finite: {K.tolist()}"
        return
    if K[[0, 1, 2, 2, 2], [1, 0, 0, 1, 2]].tolist() != [0, 0, 0, 0, 1]:
        yield f"is not of the form [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]: {K.tolist()}"
        return
    focal_length, principal_point = K[[0, 1], [0, 1]], K[:2, 2]
    names = ("fx", "fy", "cx", "cy")
    numbers = (*focal_length, *principal_point)
    values = ", ".join(f"{name} {x:g}" for name, x in zip(names, numbers, strict=True))
    if not (focal_length > 0).all():
        yield f"has {values}, expected focal lengths > 0"
    elif (focal_length <= _FOCAL_LENGTH[1]).all() and (np.abs(principal_point) <= 1).all():
        yield f"has {values}. These are fractions of the image: multiply by its size"
    elif size is not None:
        yield from _check_size(focal_length, principal_point, size, native_size or size)


def check_baseline(baseline: float) -> Iterator[str]:
    """Finds faults of the distance of two cameras in m, as `check_intrinsics` does."""
    low, high = _BASELINE
    if not low <= baseline <= high:
        yield f"has a baseline of {baseline:g} m, expected {low} to {high} m"


def _check_size(
    focal_length: np.ndarray,
    principal_point: np.ndarray,
    size: tuple[int, int],
    native_size: tuple[int, int],
) -> Iterator[str]:
    """Yields what is implausible for the size, of fx, fy (2,) and cx, cy (2,)."""
    width_height = np.array(size[::-1], np.float64)
    edge = 0.5  # from the centre of the first pixel to the edge of the image
    for name, value, bounds in (
        ("focal length", focal_length, np.outer(_FOCAL_LENGTH, width_height)),
        ("principal point", principal_point, np.array(_PRINCIPAL_POINT).T * width_height - edge),
    ):
        low, high = bounds
        if not ((low <= value) & (value <= high)).all():
            yield (
                f"has the {name} {value.round(1).tolist()} px, expected {low.round(1).tolist()} to "
                f"{high.round(1).tolist()} in an image of {size[0]}x{size[1]}: {_REMEDY}"
            )
    fx, fy = focal_length / width_height * native_size[::-1]
    if not 1 / _PIXEL_ASPECT <= fx / fy <= _PIXEL_ASPECT:
        yield (
            f"has fx {fx:.1f} and fy {fy:.1f} in pixels of the camera's image, expected a ratio of "
            f"at most {_PIXEL_ASPECT:g}: {_REMEDY}"
        )
