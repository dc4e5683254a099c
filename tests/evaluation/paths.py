"""Trajectories of a camera, (N, 4, 4) poses in m, for the tests of odometry."""

import itertools

import numpy as np


def turn(angle):
    """Rotation about the camera's y axis, which points down; a positive angle turns right."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def straight(num_steps, step=1.0):
    """A straight path ahead."""
    poses = np.tile(np.eye(4), (num_steps + 1, 1, 1))
    poses[:, 2, 3] = step * np.arange(num_steps + 1)
    return poses


def circle(num_steps, turn_per_m):
    """An arc of 1 m per frame, along which the camera looks ahead."""
    poses = straight(num_steps)
    for i, pose in enumerate(poses):
        angle = turn_per_m * i
        pose[:3, :3] = turn(angle)
        pose[:3, 3] = np.array([1 - np.cos(angle), 0, np.sin(angle)]) / turn_per_m
    return poses


def winding(num_steps, seed=0):
    """A path that turns and climbs at random, 0.5 to 1.5 m per frame."""
    rng = np.random.default_rng(seed)
    pose, poses = np.eye(4), [np.eye(4)]
    for step, angle, climb in rng.uniform((0.5, -0.1, -0.1), (1.5, 0.1, 0.1), (num_steps, 3)):
        motion = np.eye(4)
        motion[:3, :3] = turn(angle)
        motion[:3, 3] = 0, climb, step
        pose = pose @ motion
        poses.append(pose)
    return np.array(poses)


def length_of(poses):
    """Length of a path, step by step."""
    return sum(np.linalg.norm(b[:3, 3] - a[:3, 3]) for a, b in itertools.pairwise(poses))


def motions_of(poses):
    """Point transforms (N-1, 4, 4) of each frame to the next one."""
    return np.linalg.inv(poses[1:]) @ poses[:-1]


def disturb(motions, seed=1, size=0.01):
    """Motions with small random rotations about y, and random errors of their translations."""
    rng = np.random.default_rng(seed)
    result = motions.copy()
    for motion in result:
        motion[:3, :3] = turn(rng.normal(0, size)) @ motion[:3, :3]
        motion[:3, 3] += rng.normal(0, size, 3)
    return result


def random_rotation(seed=2):
    """A rotation about a random axis."""
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))[0]
    return Q * np.linalg.det(Q)
