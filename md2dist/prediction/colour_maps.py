"""Colour maps of disparities and of errors."""

from functools import cache

import numpy as np
from numpy.typing import NDArray


def disparity_bounds(disparity: NDArray[np.floating]) -> tuple[float, float]:
    """Returns the disparities of the darkest and of the brightest colour.

    They are the minimum and the 95th percentile, so that a few very near pixels do not darken the
    rest.

    Args:
        disparity: finite, (...) in any unit, typically (H, W).
    """
    return float(disparity.min()), float(np.percentile(disparity, 95))


def colour_disparity(
    disparity: NDArray[np.floating], bounds: tuple[float, float] | None = None
) -> NDArray[np.uint8]:
    """Colours disparities with magma: far is dark, near is bright.

    Args:
        disparity: (...) in any unit, typically (H, W).
        bounds: disparities of the darkest and of the brightest colour; None: `disparity_bounds`.

    Returns:
        (..., 3) uint8 RGB; black where the disparity is not finite, as in a training that diverges.
    """
    finite = np.isfinite(disparity)
    if not finite.all():
        colours = np.zeros((*disparity.shape, 3), np.uint8)
        if finite.any():
            colours[finite] = colour_disparity(disparity[finite], bounds)
        return colours
    lowest, highest = bounds or disparity_bounds(disparity)
    spread = max(highest - lowest, float(np.finfo(np.float32).tiny))
    level = disparity - lowest
    level /= spread  # in place, since an image may have millions of pixels
    np.clip(level, 0, 1, out=level)
    level *= 255
    return _table("magma")[level.round(out=level).astype(np.uint8)]


def colour_error(share: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Colours errors (...) with turbo, from 0 (blue) to >= 1 (red), as (..., 3) uint8 RGB."""
    return _table("turbo")[(np.clip(share, 0, 1) * 215 + 24).round().astype(np.uint8)]


@cache
def _table(name: str) -> NDArray[np.uint8]:
    """Returns a colour map as a table (256, 3) uint8."""
    # Imported late: it takes half a second, and only pictures use it.
    from matplotlib import colormaps

    return colormaps[name](np.arange(256), bytes=True)[:, :3]
