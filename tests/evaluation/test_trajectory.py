import numpy as np
import pytest
from paths import circle, motions_of, random_rotation, straight, winding
from reference import odometry as reference

from md2dist.evaluation.trajectory import (
    chain_motions,
    relative_to_first,
    scale_positions,
    travelled_distances,
)


@pytest.mark.parametrize("poses", [straight(30), circle(30, 0.1), winding(30)])
def test_the_motions_between_poses_chain_to_these_poses(poses):
    chained = chain_motions(motions_of(poses))
    np.testing.assert_allclose(chained, poses, atol=1e-12)
    np.testing.assert_allclose(chained, reference.chain(motions_of(poses)), atol=1e-12)


def test_a_camera_that_drives_ahead_sees_the_world_come_nearer():
    motions = np.tile(np.eye(4, dtype=np.float32), (3, 1, 1))
    motions[:, 2, 3] = -2  # a point is 2 m nearer in the next frame
    poses = chain_motions(motions)
    assert poses.dtype == np.float64
    np.testing.assert_array_equal(poses[:, :3, 3], [[0, 0, 2 * i] for i in range(4)])


@pytest.mark.parametrize("rows", [3, 4])
def test_the_world_of_the_poses_does_not_matter(rows):
    world = np.eye(4)
    world[:3, :3], world[:3, 3] = random_rotation(), (100, -20, 5)
    moved = (world @ winding(20))[:, :rows]
    np.testing.assert_allclose(relative_to_first(moved), winding(20), atol=1e-12)


def test_a_factor_scales_positions_and_leaves_directions():
    poses = winding(5)
    scaled = scale_positions(poses, 3)
    np.testing.assert_array_equal(scaled[:, :3, :3], poses[:, :3, :3])
    np.testing.assert_allclose(scaled[:, :3, 3], 3 * poses[:, :3, 3])
    np.testing.assert_array_equal(poses, winding(5))


def test_the_travelled_distance_on_a_circle_is_the_sum_of_its_chords():
    chord = 2 / 0.1 * np.sin(0.1 / 2)
    np.testing.assert_allclose(travelled_distances(circle(80, 0.1)), chord * np.arange(81))
