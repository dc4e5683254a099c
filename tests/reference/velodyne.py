"""Reference of the laser projection: point by point in float64, two rules for shared pixels."""

from collections import defaultdict

import numpy as np


def project_point(point, calibration, camera):
    """Returns (column, row, z in the camera) of one point; it may be outside the image."""
    velodyne = np.array([*point[:3], 1.0])
    in_camera_0 = calibration.velo_to_cam @ velodyne
    rectified = calibration.R_rect_00 @ in_camera_0[:3]
    x, y, z = calibration.P_rect[camera] @ np.array([*rectified, 1.0])
    return round(x / z) - 1, round(y / z) - 1, z


def project_velodyne(points, calibration, camera=2, use_velodyne_x=True, as_published=False):
    """Returns the depth (H, W) of points (N, 4).

    `as_published` treats pixels (r, W-1) and (r+1, 0) as one pixel, as the code that made the
    published ground truth does.
    """
    height, width = calibration.sizes[camera]
    depth = np.zeros((height, width))
    points_of_pixel = defaultdict(list)
    for point in np.asarray(points, np.float64):
        if point[0] < 0:
            continue
        column, row, z = project_point(point, calibration, camera)
        if 0 <= column < width and 0 <= row < height:
            stored = point[0] if use_velodyne_x else z
            depth[row, column] = stored
            group = row * (width - 1) + column if as_published else (row, column)
            points_of_pixel[group].append((row, column, stored))
    for group in points_of_pixel.values():
        if len(group) > 1:
            row, column, _ = group[0]
            depth[row, column] = min(stored for _, _, stored in group)
    return np.maximum(depth, 0)
