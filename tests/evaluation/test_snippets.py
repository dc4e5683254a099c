import itertools

import numpy as np
import pytest
import torch

from md2dist.errors import ShapeError
from md2dist.evaluation.snippets import snippet_ate


@pytest.fixture
def poses():
    """Camera-to-world poses of a drive that turns and climbs."""
    result = []
    for frame in range(12):
        angle = 0.1 * frame
        rotation = [
            [np.cos(angle), 0, np.sin(angle)],
            [0, 1, 0],
            [-np.sin(angle), 0, np.cos(angle)],
        ]
        position = [[10 * np.sin(angle)], [-0.05 * frame**2], [0.8 * frame]]
        result.append(np.hstack([rotation, position]))
    return np.array(result)


def true_transforms(poses):
    full = [np.vstack([pose, [0, 0, 0, 1]]) for pose in poses]
    return np.array([np.linalg.inv(np.linalg.inv(a) @ b) for a, b in itertools.pairwise(full)])


def test_the_reference_poses_have_the_reference_error(shared):
    golden = np.load(shared / "golden" / "eval_pose.npz")
    errors = snippet_ate(golden["pred_T"], golden["gt_global"].reshape(-1, 3, 4))
    assert errors.shape == (59,)
    assert errors.mean() == pytest.approx(golden["ate_mean"], rel=1e-12)
    assert errors.std() == pytest.approx(golden["ate_std"], rel=1e-12)


def test_true_motion_in_another_scale_has_no_error(poses):
    predicted = true_transforms(poses)
    predicted[:, :3, 3] *= 0.17
    np.testing.assert_allclose(snippet_ate(predicted, poses), 0, atol=1e-12)


def test_the_frame_of_the_world_does_not_matter(poses):
    rng = np.random.default_rng(0)
    predicted = true_transforms(poses) + 0.01 * rng.standard_normal((11, 4, 4))
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    moved = turn @ poses
    moved[:, :, 3] += [5, -3, 100]
    np.testing.assert_allclose(
        snippet_ate(predicted, moved), snippet_ate(predicted, poses), rtol=1e-9
    )


def test_a_single_sideways_step_has_the_error_of_the_closed_form():
    """The steps are perpendicular, so the best scale is 0 and the true step is the error."""
    poses = np.tile(np.eye(3, 4), (2, 1, 1))
    poses[1, 2, 3] = 3.0
    predicted = np.eye(4)[None].copy()
    predicted[0, 0, 3] = 1.0
    np.testing.assert_allclose(snippet_ate(predicted, poses), [3.0 / 2])


def test_the_last_windows_are_shorter():
    """Sideways steps again: a window of n steps of 1 m errs by the root of 1 + 4 + ... + n^2."""
    poses = np.tile(np.eye(3, 4), (7, 1, 1))
    poses[:, 2, 3] = np.arange(7)
    predicted = np.tile(np.eye(4), (6, 1, 1))
    predicted[:, 0, 3] = 1.0
    expected = [np.sqrt(sum(k**2 for k in range(n + 1))) / (n + 1) for n in (4, 4, 4, 3, 2, 1)]
    np.testing.assert_allclose(snippet_ate(predicted, poses), expected)


def test_a_network_that_sees_no_motion_is_measured_too(poses):
    errors = snippet_ate(np.tile(np.eye(4), (11, 1, 1)), poses)
    assert np.isfinite(errors).all()
    assert (errors > 0).all()


def test_tensors_are_welcome(poses):
    predicted = true_transforms(poses)
    tensors = torch.tensor(predicted), torch.tensor(poses)
    np.testing.assert_array_equal(snippet_ate(*tensors), snippet_ate(predicted, poses))


@pytest.mark.parametrize(
    ("num_transforms", "pose_shape"), [(12, (12, 3, 4)), (11, (12, 4, 4)), (0, (1, 3, 4))]
)
def test_numbers_of_frames_that_do_not_fit_are_refused(num_transforms, pose_shape):
    with pytest.raises(ShapeError, match=r"expected \(N-1, 4, 4\) and \(N, 3, 4\)"):
        snippet_ate(np.zeros((num_transforms, 4, 4)), np.zeros(pose_shape))
