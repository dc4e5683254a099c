"""Projection of laser scans to sparse depth maps."""

import numpy as np

from md2dist.data.kitti.calibration import Calibration


def project_velodyne(
    points: np.ndarray,
    calibration: Calibration,
    camera: int = 2,
    use_velodyne_x: bool = True,
) -> np.ndarray:
    """Projects a laser scan into a rectified camera.

    The ``eigen`` protocol stores a point's x in the velodyne frame instead of its depth in the
    camera frame. This is a known flaw that all publications keep so that results are comparable.

    Args:
        points: (N, 4) or (N, 3): x forwards, y to the left, z upwards in m; the rest is ignored.
        calibration: calibration of the recording date.
        camera: 2 (left) or 3 (right).
        use_velodyne_x: store the point's velodyne x instead of its z in the camera frame.

    Returns:
        Depth (H, W) float32 in m, 0 where unknown, at the camera's native size.

    Source: Eigen et al., NeurIPS 2014; Garg et al., ECCV 2016 (the protocol's crop and range).
    """
    in_front = points[points[:, 0] >= 0, :3].astype(np.float64)
    height, width = calibration.sizes[camera]
    R_rect = np.eye(4)
    R_rect[:3, :3] = calibration.R_rect_00
    P = calibration.P_rect[camera] @ R_rect @ calibration.velo_to_cam
    u, v, z = P[:, :3] @ in_front.T + P[:, 3:]
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v = np.round(u / z) - 1, np.round(v / z) - 1  # rounds half to even
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    stored = in_front[:, 0] if use_velodyne_x else z
    depth = np.full((height, width), np.inf)
    pixels = v[inside].astype(np.intp), u[inside].astype(np.intp)
    np.minimum.at(depth, pixels, stored[inside])
    depth[np.isinf(depth) | (depth < 0)] = 0
    return depth.astype(np.float32)
