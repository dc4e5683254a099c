"""Reference of the synthetic world: ray by ray, rectangle by rectangle, point by point."""

from typing import NamedTuple

import numpy as np


def first_hit(origin, ray, rectangles):
    """Returns distance (in ray lengths) and index of the first rectangle hit, or (inf, -1)."""
    nearest, number = np.inf, -1
    for i in range(len(rectangles.origin)):
        along, across = rectangles.edges[i]
        normal = np.cross(along, across)
        to_corner = rectangles.origin[i] - origin
        if to_corner @ normal >= 0 or ray @ normal == 0:
            continue  # seen from behind, or parallel
        distance = (to_corner @ normal) / (ray @ normal)
        position = distance * ray - to_corner
        inside = (
            0 <= position @ along <= rectangles.size[i, 0]
            and 0 <= position @ across <= rectangles.size[i, 1]
        )
        if inside and 0 < distance < nearest:
            nearest, number = distance, i
    return nearest, number


class Warp(NamedTuple):
    """Source view sampled at the true projections of the target's points."""

    sampled: np.ndarray  # (M, C) values of the source
    target: np.ndarray  # (M, C) values of the target at the same points
    source_depth: np.ndarray  # (M,) m, depth of the source there
    true_depth: np.ndarray  # (M,) m, depth of the target's points in the source camera


def warp(drive, target, source):
    """Projects all points of view `target` (frame, camera) to `source`, by true depth and poses."""
    target_image, depth = drive.render(*target)
    source_image, source_depth = drive.render(*source)
    v, u = np.nonzero(np.isfinite(depth))
    points = np.linalg.inv(drive.intrinsics) @ np.stack([u, v, 0 * u + 1]) * depth[v, u]
    points = drive.camera_pose(*target) @ np.concatenate([points, np.ones((1, len(u)))])
    points = (np.linalg.inv(drive.camera_pose(*source)) @ points)[:3]
    x, y = (drive.intrinsics @ points)[:2] / points[2]
    inside = (points[2] > 0) & (x > 0) & (x < drive.width - 1) & (y > 0) & (y < drive.height - 1)
    x, y = x[inside], y[inside]
    with np.errstate(divide="ignore"):
        inverse_depth = interpolate(1 / source_depth[..., None], x, y)[:, 0]
        return Warp(
            interpolate(source_image / 255, x, y),
            target_image[v, u][inside] / 255,
            1 / inverse_depth,
            points[2, inside],
        )


def interpolate(image, x, y):
    """Samples an image (H, W, C) bilinearly at inner pixels x, y (M,); returns (M, C)."""
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, down = (x - left)[:, None], (y - top)[:, None]
    upper = image[top, left] * (1 - right) + image[top, left + 1] * right
    lower = image[top + 1, left] * (1 - right) + image[top + 1, left + 1] * right
    return upper * (1 - down) + lower * down
