"""Down-sampling of curves that keeps their extremes and their gaps."""

import math
from collections.abc import Sequence

Point = tuple[float, float]


def downsample(steps: Sequence[float], values: Sequence[float], most: int) -> list[Point]:
    """Reduces a curve to the extremes of equal parts.

    Args:
        steps: (N,) ascending.
        values: (N,); NaN where there is none.
        most: number of points that are kept, at least 8.

    Returns:
        At most so many points, in order: the first and the last one, and of each part the smallest
        and the largest value, and one NaN if there is any.
    """
    if len(steps) <= most:
        return list(zip(steps, values, strict=True))
    num_parts = (most - 2) // 3
    chosen = {0, len(steps) - 1}
    for part in range(num_parts):
        start, end = (number * len(steps) // num_parts for number in (part, part + 1))
        inside = range(start, end)
        finite = [i for i in inside if math.isfinite(values[i])]
        if finite:
            chosen |= {min(finite, key=values.__getitem__), max(finite, key=values.__getitem__)}
        if len(finite) < len(inside):
            chosen.add(next(i for i in inside if not math.isfinite(values[i])))
    return [(steps[i], values[i]) for i in sorted(chosen)]
