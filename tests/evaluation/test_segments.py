import numpy as np
import pytest
from paths import circle, disturb, motions_of, random_rotation, straight, winding
from reference import odometry as reference

from md2dist.evaluation.segments import LENGTHS, measure_drift
from md2dist.evaluation.trajectory import chain_motions, scale_positions


def counts(num_steps):
    """Segments of each length on a straight path of 1 m per frame; they end 1 m beyond it."""
    starts = range(0, num_steps + 1, 10)
    found = {n: sum(start + n + 1 <= num_steps for start in starts) for n in LENGTHS}
    return {length: number for length, number in found.items() if number}


def test_true_poses_have_no_drift():
    drift, by_length = measure_drift(winding(1000), winding(1000))
    assert drift.t_rel == pytest.approx(0, abs=1e-9)
    assert drift.r_rel == pytest.approx(0, abs=1e-5)
    assert list(by_length) == list(LENGTHS)


@pytest.mark.parametrize("num_steps", [101, 250, 1000])
def test_a_scale_error_of_five_percent_on_a_straight_path_is_a_drift_of_five_percent(num_steps):
    path = straight(num_steps)
    drift, by_length = measure_drift(scale_positions(path, 1.05), path)
    numbers = counts(num_steps)
    assert {length: row.num_segments for length, row in by_length.items()} == numbers
    for length, row in by_length.items():
        assert row.t_rel == pytest.approx(5 * (length + 1) / length, rel=1e-12)
        assert row.r_rel == 0
    total = sum(number * 5 * (length + 1) / length for length, number in numbers.items())
    assert drift.num_segments == sum(numbers.values())
    assert drift.t_rel == pytest.approx(total / drift.num_segments, rel=1e-12)


def test_a_camera_that_turns_on_a_straight_path_drifts_as_the_closed_form_says():
    turn_per_m = np.radians(0.02)
    _, by_length = measure_drift(circle(1000, turn_per_m), straight(1000))
    for length, row in by_length.items():
        angle = turn_per_m * (length + 1)
        assert row.r_rel == pytest.approx(2 * (length + 1) / length, rel=1e-6)
        ahead, aside = np.sin(angle) / turn_per_m, (1 - np.cos(angle)) / turn_per_m
        expected = np.hypot(length + 1 - ahead, aside) / length
        assert row.t_rel == pytest.approx(100 * expected, rel=1e-9)


def test_an_error_at_one_place_counts_in_the_segments_that_hold_it():
    """A jump of 3 m between frames 14 and 15: segments from 0 and 10 hold it, later ones do not."""
    predicted = straight(200)
    predicted[15:, 0, 3] = 3
    drift, by_length = measure_drift(predicted, straight(200))
    assert (drift, list(by_length)) == (by_length[100], [100])
    assert drift.num_segments == 10
    assert drift.t_rel == pytest.approx(3 * 2 / 10)


@pytest.mark.parametrize("seed", range(3))
def test_drift_is_that_of_the_reference(seed):
    true = winding(700, seed)
    predicted = chain_motions(disturb(motions_of(true), seed, size=0.003))
    drift, by_length = measure_drift(predicted, true)
    rows = np.array(reference.segment_errors(predicted, true, LENGTHS))
    for expected, found in (
        (rows, drift),
        *((rows[rows[:, 0] == length], row) for length, row in by_length.items()),
    ):
        assert found.num_segments == len(expected)
        assert found.t_rel == pytest.approx(100 * expected[:, 1].mean(), rel=1e-9)
        assert found.r_rel == pytest.approx(np.degrees(100 * expected[:, 2].mean()), rel=1e-6)


def test_the_coordinates_of_either_path_do_not_matter():
    true = winding(300)
    predicted = chain_motions(disturb(motions_of(true)))
    world = np.eye(4)
    world[:3, :3], world[:3, 3] = random_rotation(), (100, -20, 5)
    expected, _ = measure_drift(predicted, true)
    for pair in ((world @ predicted, true), (predicted, world @ true)):
        assert measure_drift(*pair)[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("num_steps", [1, 99, 100])
def test_a_path_of_at_most_100_m_has_no_drift_to_measure(num_steps):
    assert measure_drift(straight(num_steps), straight(num_steps)) == (None, {})
