import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from md2dist.reports.axis import fit_axis

FINITE = st.floats(-1e12, 1e12) | st.floats(1e-9, 1.0) | st.floats(0.999, 1.0)


@given(st.lists(FINITE, min_size=1, max_size=20))
def test_an_axis_holds_its_values_and_has_some_ticks_inside(values):
    axis = fit_axis(values)
    shares = [axis.share(value) for value in values]
    assert all(-1e-6 <= share <= 1 + 1e-6 for share in shares)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 12
    assert all(-1e-6 <= axis.share(tick) <= 1 + 1e-6 for tick in ticks)
    assert ticks == sorted(ticks)


def test_positive_values_far_apart_have_a_logarithmic_axis():
    axis = fit_axis([1e-4, 1.0, 10.0])
    assert axis.is_log
    assert axis.share(1e-2) - axis.share(1e-3) == pytest.approx(axis.share(10) - axis.share(1))
    assert not fit_axis([0.0, 1.0, 1000.0]).is_log


@pytest.mark.parametrize(
    "values", [[1e-300, 1e300], [-1e308, 1e308], [1e308, 1e308], [1e-29, 1e308]]
)
def test_an_axis_of_the_largest_numbers_is_finite(values):
    axis = fit_axis(values)
    numbers = [axis.low, axis.high, *map(axis.share, values), *axis.ticks()]
    assert all(map(math.isfinite, numbers))
    assert axis.low < axis.high


def test_without_values_an_axis_is_usable():
    assert all(math.isfinite(tick) for tick in fit_axis([]).ticks())
