import numpy as np
import pytest
import torch
from helpers.sample_list import SampleList, random_samples
from hypothesis import given
from hypothesis import strategies as st
from reference import evaluation as reference

from md2dist.errors import ShardError
from md2dist.evaluation.baselines import RowProfile, fit_constant, fit_row_profile, weighted_median
from md2dist.evaluation.depth import evaluate_depth

PROTOCOLS = pytest.mark.parametrize("protocol", ["eigen", "eigen_benchmark"])


@pytest.fixture
def samples():
    """Few pixels, and of different numbers, so that the mean of means is no mean over pixels."""
    samples = random_samples(np.random.default_rng(0), 4, height=12, width=20)
    samples[1].ground_truth[:, ::2] = 0
    samples[2].ground_truth[::2] = 0
    return samples


def truths_of(samples):
    return [sample.ground_truth for sample in samples]


def abs_rel_of(predict, samples, protocol):
    report = evaluate_depth(predict, samples, protocol=protocol, scaling=1.0)
    return report.metrics.abs_rel


@given(st.lists(st.tuples(st.floats(1, 80), st.floats(0.01, 10)), min_size=1, max_size=12))
def test_no_value_has_a_smaller_weighted_distance_than_the_weighted_median(points):
    values, weights = np.array(points).T

    def distance(x):
        return float(np.sum(weights * np.abs(x - values)))

    # A sum of |x - value| is least at one of the values.
    best = min(distance(value) for value in values)
    assert distance(weighted_median(values, weights)) <= best * (1 + 1e-9) + 1e-9


def test_equal_weights_give_the_lower_median():
    assert weighted_median(np.array([4.0, 1.0, 3.0, 2.0]), np.ones(4)) == 2


@PROTOCOLS
def test_no_constant_beats_the_fitted_one(samples, protocol):
    (depth,) = fit_constant(samples, protocol=protocol).depths
    truths = truths_of(samples)

    def error(candidate):
        return reference.mean_abs_rel([min(candidate, 80)] * 12, truths, protocol)

    every_depth = np.unique(np.concatenate([truth[truth > 0] for truth in truths])).tolist()
    assert error(depth) == pytest.approx(min(map(error, every_depth)), rel=1e-12)


def test_no_change_of_a_row_improves_the_fitted_profile(samples):
    profile = fit_row_profile(samples).depths
    truths = truths_of(samples)
    least = reference.mean_abs_rel(profile, truths, "eigen")
    for row in range(12):
        for candidate in np.unique(np.concatenate([truth[row] for truth in truths])):
            changed = profile.copy()
            changed[row] = candidate
            assert reference.mean_abs_rel(changed, truths, "eigen") >= least - 1e-12


@PROTOCOLS
def test_the_evaluation_of_a_baseline_is_the_error_it_was_fitted_for(samples, protocol):
    for fit in (fit_constant, fit_row_profile):
        profile = fit(samples, protocol=protocol)
        depths = np.broadcast_to(np.minimum(profile.depths, 80), 12)
        expected = reference.mean_abs_rel(depths, truths_of(samples), protocol)
        assert abs_rel_of(profile, samples, protocol) == pytest.approx(expected, rel=1e-9)


def test_a_profile_is_no_worse_than_a_constant_on_its_own_images(samples):
    constant, profile = fit_constant(samples), fit_row_profile(samples)
    assert abs_rel_of(profile, samples, "eigen") < abs_rel_of(constant, samples, "eigen")


def test_a_world_of_rows_is_learnt_exactly():
    samples = random_samples(np.random.default_rng(1), 3, height=12, width=20)
    world = np.linspace(60, 4, 12, dtype=np.float32)
    samples = SampleList(
        sample._replace(ground_truth=np.where(sample.ground_truth > 0, world[:, None], 0))
        for sample in samples
    )
    profile = fit_row_profile(samples, protocol="eigen_benchmark")
    np.testing.assert_allclose(profile.depths, world)
    assert abs_rel_of(profile, samples, "eigen") == pytest.approx(0, abs=1e-7)


def test_rows_without_ground_truth_take_the_nearest_known_depth(samples):
    profile = fit_row_profile(samples).depths
    first = int(0.40810811 * 12)  # the crop begins here
    np.testing.assert_array_equal(profile[:first], profile[first])
    assert np.isfinite(profile).all()


def test_images_of_other_heights_share_the_profile_in_relative_rows():
    samples = random_samples(np.random.default_rng(2), 2, height=12, width=20)
    world = np.where(np.arange(12) < 6, 40.0, 5.0).astype(np.float32)
    tall = np.repeat(np.repeat(world, 2)[:, None], 20, axis=1)
    samples = [
        samples[0]._replace(ground_truth=np.repeat(world[:, None], 20, axis=1)),
        samples[1]._replace(ground_truth=tall),
    ]
    profile = fit_row_profile(samples, protocol="eigen_benchmark")
    np.testing.assert_array_equal(profile.depths, world)


def test_a_profile_says_the_same_of_every_frame():
    disparity = RowProfile(np.array([20.0, 10.0, 5.0]))(torch.zeros(4, 8, 16, 3).byte())
    assert disparity.shape == (4, 1, 3, 1)
    np.testing.assert_array_equal(disparity[:, 0, :, 0], [[0.05, 0.1, 0.2]] * 4)


def test_shards_without_ground_truth_are_refused(samples):
    samples = [sample._replace(ground_truth=None) for sample in samples]
    for fit in (fit_constant, fit_row_profile):
        with pytest.raises(ShardError, match="--ground-truth"):
            fit(samples)
