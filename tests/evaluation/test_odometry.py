import json
import re

import numpy as np
import pytest
from paths import disturb, length_of, motions_of, random_rotation, straight, winding
from reference import odometry as reference

from md2dist.data.kitti.poses import read_poses
from md2dist.evaluation.odometry import evaluate_odometry
from md2dist.evaluation.segments import Drift


def in_scale(motions, factor):
    """Motions in the unit of a model without scale."""
    scaled = motions.copy()
    scaled[:, :3, 3] *= factor
    return scaled


def figures_of(motions, poses, scaling="fit"):
    """All figures of the report that have a unit of metres or less, as one array."""
    report = evaluate_odometry(motions, poses[:, :3], scaling).report
    return np.array([*report[:4], *report.drift[:2]])


def test_true_motions_in_another_scale_have_no_error():
    poses = winding(300)
    result = evaluate_odometry(in_scale(motions_of(poses), 0.02), poses[:, :3])
    np.testing.assert_allclose(figures_of(in_scale(motions_of(poses), 0.02), poses), 0, atol=1e-5)
    assert result.report.fitted_scale == result.report.scale == pytest.approx(50)
    np.testing.assert_allclose(result.predicted, result.true, atol=1e-9)


def test_the_figures_are_those_of_the_reference():
    poses = winding(300)
    motions = in_scale(disturb(motions_of(poses)), 0.3)
    report = evaluate_odometry(motions, poses[:, :3]).report
    places, true = reference.chain(motions)[:, :3, 3], poses[:, :3, 3]
    windows = reference.snippet_errors(motions, poses)
    assert report.snippet_ate_mean == pytest.approx(np.mean(windows), rel=1e-9)
    assert report.snippet_ate_std == pytest.approx(np.std(windows), rel=1e-9)
    scale, rotation, shift = reference.fit_similarity(places, true)
    aligned = np.array([scale * rotation @ place + shift for place in places])
    assert report.ate_sim3 == pytest.approx(np.sqrt(((aligned - true) ** 2).sum(1).mean()))
    factor = sum(p @ t for p, t in zip(places, true, strict=True)) / sum(p @ p for p in places)
    assert report.fitted_scale == pytest.approx(factor)
    assert report.ate_scale == pytest.approx(np.sqrt(((factor * places - true) ** 2).sum(1).mean()))
    assert (report.num_frames, report.path_length) == (301, pytest.approx(length_of(poses)))


def test_the_scale_of_the_prediction_does_not_matter_if_it_is_fitted():
    poses = winding(300)
    motions = disturb(motions_of(poses))
    expected = figures_of(motions, poses)
    np.testing.assert_allclose(figures_of(in_scale(motions, 0.01), poses), expected, rtol=1e-9)


def test_the_world_of_the_poses_does_not_matter():
    poses, world = winding(300), np.eye(4)
    motions = disturb(motions_of(poses))
    world[:3, :3], world[:3, 3] = random_rotation(), (100, -20, 5)
    np.testing.assert_allclose(
        figures_of(motions, world @ poses), figures_of(motions, poses), rtol=1e-6
    )


def test_a_fixed_factor_shows_its_error_in_the_drift_but_not_in_fitted_errors():
    poses = straight(101)
    fitted = evaluate_odometry(in_scale(motions_of(poses), 1 / 5), poses[:, :3], "fit").report
    fixed = evaluate_odometry(in_scale(motions_of(poses), 1 / 5), poses[:, :3], 5.4).report
    assert fitted.drift.t_rel == pytest.approx(0, abs=1e-9)
    assert (fixed.scale, fixed.fitted_scale) == (5.4, pytest.approx(5))
    assert fixed.drift.t_rel == pytest.approx(8 * 101 / 100)
    np.testing.assert_allclose([fixed.ate_sim3, fixed.ate_scale], 0, atol=1e-9)


def test_a_path_without_a_segment_has_figures_that_json_can_hold_and_a_reason():
    poses = winding(50)
    report = evaluate_odometry(motions_of(poses), poses[:, :3]).report
    assert report.drift is None
    figures = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert (figures["t_rel"], figures["r_rel"], figures["num_segments"]) == (None, None, 0)
    assert figures["segments"] == {}
    assert report.as_markdown().endswith("No t_rel and r_rel: the path has no segment of 100 m.")


def test_the_tables_and_the_json_file_show_the_same_figures():
    poses = winding(300)
    report = evaluate_odometry(disturb(motions_of(poses)), poses[:, :3]).report
    figures = report.as_dict()
    assert (figures["t_rel"], figures["r_rel"], figures["num_segments"]) == report.drift
    assert Drift(**figures["segments"]["100"]) == report.drift_by_length[100]
    row, *segments = [
        line for line in report.as_markdown().splitlines() if re.match(r"\| [\d.]+ ", line)
    ]
    assert f"| {figures['ate_sim3']:.3f} | {figures['ate_scale']:.3f} |" in row
    assert f"| {figures['t_rel']:.3f} | {figures['r_rel']:.3f} | 301 |" in row
    assert [line.split()[1] for line in segments] == list(figures["segments"])


def test_a_network_that_sees_no_motion_is_measured_too():
    poses = winding(300)
    report = evaluate_odometry(np.tile(np.eye(4), (300, 1, 1)), poses[:, :3]).report
    assert report.fitted_scale == 0
    assert report.ate_sim3 == pytest.approx(np.sqrt(poses[:, :3, 3].var(0).sum()))
    assert report.drift.t_rel > 50


@pytest.mark.parametrize(
    ("sequence", "num_frames", "length"), [("09", 1591, 1705), ("10", 1201, 920)]
)
def test_the_real_sequences_have_their_published_lengths_and_no_error_of_their_own(
    shared, sequence, num_frames, length
):
    poses = read_poses(shared / "kitti" / "odometry", sequence)
    full = np.tile(np.eye(4), (len(poses), 1, 1))
    full[:, :3] = poses
    report = evaluate_odometry(in_scale(motions_of(full), 0.03), poses).report
    assert report.num_frames == num_frames
    assert report.path_length == pytest.approx(length, abs=1)
    assert list(report.drift_by_length) == [100, 200, 300, 400, 500, 600, 700, 800]
    errors = [report.snippet_ate_mean, report.ate_sim3, report.ate_scale, *report.drift[:2]]
    np.testing.assert_allclose(errors, 0, atol=1e-3)
