import math

from hypothesis import given
from hypothesis import strategies as st

from md2dist.reports.downsample import downsample

VALUES = st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), min_size=1, max_size=400)


@given(VALUES, st.integers(8, 60))
def test_a_reduced_curve_keeps_its_extremes_its_ends_and_that_values_are_missing(values, most):
    kept = downsample(range(len(values)), values, most)
    assert len(kept) <= most or len(values) <= most
    steps = [step for step, _ in kept]
    assert steps == sorted(set(steps))
    assert {0, len(values) - 1} <= set(steps)
    assert all(value is values[step] for step, value in kept)
    finite = [value for value in values if math.isfinite(value)]
    left = [value for _, value in kept if math.isfinite(value)]
    if finite:
        assert (min(left), max(left)) == (min(finite), max(finite))
    assert (len(finite) < len(values)) == (len(left) < len(kept))


def test_a_single_spike_among_100000_steps_is_kept():
    values = [0.1] * 100_000
    values[54_321] = 9.0
    assert (54_321, 9.0) in downsample(range(100_000), values, 600)
