"""Reference of the odometry evaluation: frame by frame in float64, from the papers."""

import itertools
import math

import numpy as np


def chain(motions):
    """Chains point transforms of frame i to frame i+1; pose n is (T_n ... T_2 T_1) inverted."""
    poses = []
    for n in range(len(motions) + 1):
        to_frame_n = np.eye(4)
        for motion in motions[:n]:
            to_frame_n = motion @ to_frame_n
        poses.append(np.linalg.inv(to_frame_n))
    return np.array(poses)


def fit_similarity(predicted, true):
    """Scale, rotation and shift after Horn (JOSA 1987): the rotation as a unit quaternion."""
    predicted_mean, true_mean = sum(predicted) / len(predicted), sum(true) / len(true)
    M = np.zeros((3, 3))
    for p, t in zip(predicted - predicted_mean, true - true_mean, strict=True):
        M += np.outer(p, t)
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = M
    N = np.array(
        [
            [xx + yy + zz, yz - zy, zx - xz, xy - yx],
            [yz - zy, xx - yy - zz, xy + yx, zx + xz],
            [zx - xz, xy + yx, yy - xx - zz, yz + zy],
            [xy - yx, zx + xz, yz + zy, zz - xx - yy],
        ]
    )
    w, x, y, z = np.linalg.eigh(N)[1][:, -1]
    rotation = np.array(
        [
            [w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z],
        ]
    )
    above = below = 0.0
    for p, t in zip(predicted - predicted_mean, true - true_mean, strict=True):
        above += t @ rotation @ p
        below += p @ p
    scale = above / below
    return scale, rotation, true_mean - scale * rotation @ predicted_mean


def segment_errors(predicted, true, lengths):
    """Lists (length, translation error / length, angle / length in rad/m) of all segments."""
    rows = []
    for start in range(0, len(true), 10):
        for length in lengths:
            distance, end = 0.0, start
            while distance <= length and end + 1 < len(true):
                distance += math.dist(true[end][:3, 3], true[end + 1][:3, 3])
                end += 1
            if distance <= length:
                continue
            moved = [np.linalg.inv(poses[start]) @ poses[end] for poses in (predicted, true)]
            error = np.linalg.inv(moved[0]) @ moved[1]
            R = error[:3, :3]
            sine = math.hypot(R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]) / 2
            angle = math.atan2(sine, (R[0, 0] + R[1, 1] + R[2, 2] - 1) / 2)
            rows.append((length, math.hypot(*error[:3, 3]) / length, angle / length))
    return rows


def snippet_errors(motions, true):
    """Errors of all windows of up to five frames, each with a scale of its own."""
    true_motions = [np.linalg.inv(b) @ a for a, b in itertools.pairwise(true)]
    errors = []
    for start in range(len(motions)):
        places = []
        for steps in (motions, true_motions):
            C, row = np.eye(4), [np.zeros(3)]
            for step in steps[start : start + 4]:
                C = C @ step
                row.append(C[:3, 3])
            places.append(row)
        above = sum(t @ p for p, t in zip(*places, strict=True))
        scale = above / sum(p @ p for p in places[0])
        total = sum(math.dist(scale * p, t) ** 2 for p, t in zip(*places, strict=True))
        errors.append(math.sqrt(total) / len(places[0]))
    return errors
