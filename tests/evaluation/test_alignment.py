import numpy as np
import pytest
from paths import circle, random_rotation, straight, winding
from reference import odometry as reference

from md2dist.evaluation.alignment import fit_scale, fit_similarity, trajectory_error


def positions(poses):
    return poses[:, :3, 3].copy()


def noisy(places, seed=0, size=0.3):
    return places + np.random.default_rng(seed).normal(0, size, places.shape)


@pytest.mark.parametrize("path", [straight(40), circle(40, 0.1), winding(40)])
def test_a_path_in_another_scale_fits_with_the_scale_alone(path):
    true = positions(path)
    assert fit_scale(true / 7, true) == pytest.approx(7)
    assert trajectory_error(fit_scale(true / 7, true) * true / 7, true) == pytest.approx(
        0, abs=1e-9
    )


def test_of_a_path_at_a_right_angle_the_scale_alone_leaves_the_whole_path():
    """Positions 0..n: the best scale is 0, and the mean square of 0..n is n (2n + 1) / 6."""
    true = positions(straight(10))
    sideways = true[:, [2, 1, 0]]
    assert fit_scale(sideways, true) == 0
    assert trajectory_error(0 * sideways, true) == pytest.approx(np.sqrt(10 * 21 / 6))


def test_a_constant_offset_is_the_error():
    true = positions(winding(20))
    assert trajectory_error(true + np.array([0.3, 0, 0.4]), true) == pytest.approx(0.5)


@pytest.mark.parametrize("path", [straight(40), circle(40, 0.1), winding(40)])
@pytest.mark.parametrize("scale", [0.01, 1, 30])
def test_a_path_that_was_turned_moved_and_scaled_fits(path, scale):
    true = positions(path)
    predicted = scale * true @ random_rotation().T + [5, -3, 100]
    fitted = fit_similarity(predicted, true)
    assert fitted.scale == pytest.approx(1 / scale)
    np.testing.assert_allclose(fitted.apply(predicted), true, atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_the_fit_is_that_of_the_reference(seed):
    true = positions(winding(60, seed))
    predicted = 0.2 * noisy(true, seed) @ random_rotation(seed).T
    for ours, theirs in zip(
        fit_similarity(predicted, true), reference.fit_similarity(predicted, true), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_the_error_of_the_fit_does_not_depend_on_the_coordinates_of_the_prediction():
    true = positions(winding(60))
    predicted = noisy(true)
    error = trajectory_error(fit_similarity(predicted, true).apply(predicted), true)
    moved = 0.3 * predicted @ random_rotation().T + [50, 2, -8]
    assert trajectory_error(fit_similarity(moved, true).apply(moved), true) == pytest.approx(error)


def test_no_other_similarity_near_the_fit_is_better():
    true = positions(winding(60))
    predicted = noisy(true, size=3)
    fitted = fit_similarity(predicted, true)
    best = trajectory_error(fitted.apply(predicted), true)
    for seed in range(30):
        rng = np.random.default_rng(seed)
        skew = 0.01 * np.cross(np.eye(3), rng.standard_normal(3))
        other = fitted._replace(
            scale=fitted.scale * rng.uniform(0.98, 1.02),
            rotation=np.linalg.inv(np.eye(3) - skew) @ (np.eye(3) + skew) @ fitted.rotation,
            translation=fitted.translation + rng.normal(0, 0.1, 3),
        )
        assert trajectory_error(other.apply(predicted), true) > best


@pytest.mark.parametrize("size", [0, 0.3])
def test_mirrored_places_are_turned_but_not_mirrored_back(size):
    true = np.random.default_rng(0).normal(0, 10, (60, 3))
    mirrored = noisy(true, size=size) * [-1, 1, 1]
    fitted = fit_similarity(mirrored, true)
    for ours, theirs in zip(fitted, reference.fit_similarity(mirrored, true), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)
    assert np.linalg.det(fitted.rotation) == pytest.approx(1)
    assert trajectory_error(fitted.apply(mirrored), true) > 1


def test_a_prediction_without_motion_fits_at_the_mean_of_the_path():
    true = positions(winding(20))
    still = np.ones_like(true)
    fitted = fit_similarity(still, true)
    assert fitted.scale == 0
    np.testing.assert_allclose(fitted.apply(still), np.tile(true.mean(0), (21, 1)))
    assert fit_scale(np.zeros_like(true), true) == 0
