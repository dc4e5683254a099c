"""Axes of charts: scale, range, and ticks at round numbers."""

import math
from collections.abc import Sequence
from typing import NamedTuple

_TINY, _HUGE = 1e-30, 1e100
_WIDE = 50.0  # ratio of the largest to the smallest value, from which on an axis is logarithmic


class Axis(NamedTuple):
    """A range of values, linear or logarithmic."""

    low: float
    high: float
    is_log: bool = False

    def share(self, value: float) -> float:
        """Returns the place of a value: 0 at the lower end, 1 at the upper one; -1 to 2."""
        low, high, value = (math.log(x) if self.is_log else x for x in (self.low, self.high, value))
        return min(max((value - low) / (high - low), -1.0), 2.0)

    def ticks(self, count: int = 5) -> list[float]:
        """Returns about as many round values, inside the range."""
        if self.is_log:
            return _log_ticks(self.low, self.high, count)
        step = _round_step((self.high - self.low) / count)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def fit_axis(values: Sequence[float], *, may_be_log: bool = True, margin: float = 0.06) -> Axis:
    """Fits an axis to finite values.

    Args:
        values: the values; without any, the axis goes from 0 to 1.
        may_be_log: whether it is logarithmic if they are positive and far apart.
        margin: free share at both ends.
    """
    low, high = min(values, default=0.0), max(values, default=1.0)
    low, high = (min(max(value, -_HUGE), _HUGE) for value in (low, high))
    if may_be_log and low > _TINY and high / low > _WIDE:
        spread = math.log(high / low) * margin
        return Axis(low * math.exp(-spread), high * math.exp(spread), is_log=True)
    size = max(abs(low), abs(high), _TINY)
    spread = (high - low) * margin if high - low > 1e-6 * size else 0.1 * size
    is_at_zero = 0 <= low < 0.25 * high
    return Axis(0.0 if is_at_zero else low - spread, high + spread)


def format_number(value: float) -> str:
    """Formats a number with at most three figures, shortly.

    >>> [format_number(x) for x in (0, 0.25, 120000, 1e-4, 0.1159, 1500, -2e6)]
    ['0', '0.25', '120k', '1e-4', '0.116', '1.5k', '-2M']
    """
    size = abs(value)
    if size >= 1e9 or 0 < size < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if size >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


def _log_ticks(low: float, high: float, count: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(decades) <= 3 else (1,)
    ticks = [factor * 10.0**decade for decade in decades for factor in factors]
    ticks = [tick for tick in ticks if low <= tick <= high]
    return ticks[:: max(1, math.ceil(len(ticks) / (count + 1)))]
