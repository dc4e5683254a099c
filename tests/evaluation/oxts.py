"""Poses of the left colour camera of a KITTI raw drive, from its navigation unit.

Source: Geiger et al., "Vision meets Robotics: The KITTI Dataset", IJRR 2013, section on OXTS.
"""

import numpy as np

EARTH_RADIUS = 6378137.0  # m


def read_camera_poses(drive):
    """Reads all frames of a drive; returns camera to first camera, (N, 4, 4)."""
    rows = [np.loadtxt(path) for path in sorted((drive / "oxts" / "data").glob("*.txt"))]
    scale = np.cos(np.radians(rows[0][0]))
    camera_from_imu = read_camera_from_imu(drive.parent)
    poses = []
    for latitude, longitude, altitude, roll, pitch, yaw, *_ in rows:
        pose = np.eye(4)
        x = scale * EARTH_RADIUS * np.radians(longitude)  # east
        y = scale * EARTH_RADIUS * np.log(np.tan(np.radians(90 + latitude) / 2))  # north
        pose[:3, 3] = x, y, altitude
        pose[:3, :3] = about("z", yaw) @ about("y", pitch) @ about("x", roll)
        poses.append(pose @ np.linalg.inv(camera_from_imu))
    return np.linalg.inv(poses[0]) @ poses


def about(axis, angle):
    """Right-handed rotation about an axis."""
    c, s = np.cos(angle), np.sin(angle)
    return {
        "x": np.array([[1, 0, 0], [0, c, -s], [0, s, c]]),
        "y": np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]),
        "z": np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]),
    }[axis]


def read_camera_from_imu(date):
    """Chains navigation unit -> laser -> camera 0 -> rectified camera 0 -> camera 2."""
    entries = read_entries(date / "calib_cam_to_cam.txt")
    rectification, shift = np.eye(4), np.eye(4)
    rectification[:3, :3] = entries["R_rect_00"].reshape(3, 3)
    projection = entries["P_rect_02"].reshape(3, 4)
    shift[:3, 3] = np.linalg.inv(projection[:, :3]) @ projection[:, 3]
    chain = shift @ rectification
    for name in ("calib_velo_to_cam.txt", "calib_imu_to_velo.txt"):
        rigid, motion = read_entries(date / name), np.eye(4)
        motion[:3, :3], motion[:3, 3] = rigid["R"].reshape(3, 3), rigid["T"]
        chain = chain @ motion
    return chain


def read_entries(path):
    pairs = (line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    return {name: np.array(text.split(), float) for name, text in pairs if name != "calib_time"}
