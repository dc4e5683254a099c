"""Trajectories: the poses of a camera, chained from the motions between its frames."""

import numpy as np
from numpy.typing import NDArray


def chain_motions(T_next_frame: NDArray[np.floating]) -> NDArray[np.float64]:
    """Chains the motions between frames to a trajectory.

    Args:
        T_next_frame: (N-1, 4, 4), point transforms of frame i to frame i+1.

    Returns:
        (N, 4, 4) float64 poses: point transforms of frame i to frame 0. The first is the identity,
        and the last column of pose i is the position of camera i.
    """
    pose = np.eye(4)
    poses = [pose]
    for motion in np.linalg.inv(np.asarray(T_next_frame, np.float64)):
        pose = pose @ motion
        poses.append(pose)
    return np.stack(poses)


def relative_to_first(poses: NDArray[np.floating]) -> NDArray[np.float64]:
    """Expresses poses in the frame of the first one.

    Args:
        poses: (N, 3, 4) or (N, 4, 4), camera to world.

    Returns:
        (N, 4, 4) float64, camera to first camera.
    """
    world_from_camera = np.tile(np.eye(4), (len(poses), 1, 1))
    world_from_camera[:, :3] = poses[:, :3]
    return np.linalg.inv(world_from_camera[0]) @ world_from_camera


def scale_positions(poses: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """Multiplies the positions of poses (N, 4, 4) by a factor; the directions stay."""
    scaled = poses.copy()
    scaled[:, :3, 3] *= factor
    return scaled


def travelled_distances(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the length of the path from the first pose to each of (N, 4, 4), (N,) in m."""
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])
