"""Agreement with evo, an evaluation tool of the field; it is GPL-3 and no dependency of md2dist."""

import numpy as np
import pytest
from paths import disturb, motions_of, winding

from md2dist.data.kitti.poses import format_poses
from md2dist.evaluation.alignment import fit_similarity, trajectory_error
from md2dist.evaluation.odometry import evaluate_odometry
from md2dist.evaluation.trajectory import travelled_distances

evo = pytest.importorskip("evo", reason="evo is not installed (pip install evo)")


@pytest.fixture(params=range(3))
def paths(request, tmp_path):
    """A true path and a predicted one in our arrays, and as evo reads the files that we write."""
    from evo.tools.file_interface import read_kitti_poses_file

    true = winding(400, request.param)
    motions = disturb(motions_of(true), request.param)
    motions[:, :3, 3] *= 0.03
    predicted = evaluate_odometry(motions, true[:, :3], 1.0).predicted
    read = []
    for name, poses in (("true", true), ("predicted", predicted)):
        (tmp_path / name).write_text(format_poses(poses))
        read.append(read_kitti_poses_file(tmp_path / name))
    return true, predicted, *read


def test_evo_reads_the_trajectories_that_are_written(paths):
    true, predicted, evo_true, evo_predicted = paths
    np.testing.assert_allclose(evo_true.poses_se3, true, atol=1e-6)
    np.testing.assert_allclose(evo_predicted.poses_se3, predicted, atol=1e-6)
    assert evo_true.path_length == pytest.approx(travelled_distances(true)[-1], rel=1e-6)


def test_the_alignment_and_its_error_are_those_of_evo(paths):
    from evo.core.metrics import APE, PoseRelation, StatisticsType

    true, predicted, evo_true, evo_predicted = paths
    rotation, shift, scale = evo_predicted.align(evo_true, correct_scale=True)
    ours = fit_similarity(predicted[:, :3, 3], true[:, :3, 3])
    assert ours.scale == pytest.approx(scale, rel=1e-6)
    np.testing.assert_allclose(ours.rotation, rotation, atol=1e-6)
    np.testing.assert_allclose(ours.translation, shift, atol=1e-4)
    error = APE(PoseRelation.translation_part)
    error.process_data((evo_true, evo_predicted))
    places = ours.apply(predicted[:, :3, 3])
    assert trajectory_error(places, true[:, :3, 3]) == pytest.approx(
        error.get_statistic(StatisticsType.rmse), rel=1e-6
    )
