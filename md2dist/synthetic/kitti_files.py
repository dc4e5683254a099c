"""KITTI's text files for the synthetic rig: calibration and the navigation unit's records."""

import numpy as np
from numpy.typing import NDArray

from md2dist.synthetic.drive import CAMERA_X, FRAME_RATE, IMU_TO_VELO, VELO_TO_CAM, Drive

_EARTH_RADIUS = 6378137.0  # m
_LATITUDE, _LONGITUDE = 49.0, 8.4  # deg, where the street starts


def format_calibration(drive: Drive) -> dict[str, str]:
    """The three calibration files of a date, name to text, with KITTI's keys."""
    head = {"calib_time": "01-Jan-2026 12:00:00"}
    cameras: dict[str, str] = {**head, "corner_dist": _join([0.0995])}
    eye, K = np.eye(3), drive.intrinsics
    for camera, x in sorted(CAMERA_X.items()):
        translation = [-x, 0.0, 0.0]
        projection = K @ np.column_stack([eye, translation])
        values = {
            "S": [drive.width, drive.height],
            "K": K,
            "D": np.zeros(5),
            "R": eye,
            "T": translation,
            "S_rect": [drive.width, drive.height],
            "R_rect": eye,
            "P_rect": projection,
        }
        cameras |= {f"{key}_{camera:02d}": _join(value) for key, value in values.items()}
    flat = {"delta_f": _join([0.0, 0.0]), "delta_c": _join([0.0, 0.0])}
    files = {
        "calib_cam_to_cam.txt": cameras,
        "calib_velo_to_cam.txt": head | _split(VELO_TO_CAM) | flat,
        "calib_imu_to_velo.txt": head | _split(IMU_TO_VELO),
    }
    return {
        name: "".join(f"{key}: {value}\n" for key, value in entries.items())
        for name, entries in files.items()
    }


def format_oxts(drive: Drive, frame: int) -> str:
    """One record of the navigation unit: the 30 values of KITTI's dataformat.txt.

    Source: KITTI raw development kit: Mercator projection with the scale of the first latitude.
    """
    pose, step = drive.imu_pose(frame), 0.01
    before, after = drive.imu_pose(frame - step), drive.imu_pose(frame + step)
    seconds = step / FRAME_RATE
    velocity = (after - before)[:3, 3] / (2 * seconds)
    acceleration = (after - 2 * pose + before)[:3, 3] / seconds**2 + [0, 0, 9.81]
    spin = pose[:3, :3].T @ (after - before)[:3, :3] / (2 * seconds)
    rates = [spin[2, 1], spin[0, 2], spin[1, 0]]
    rotation = pose[:3, :3]
    yaw = np.arctan2(rotation[1, 0], rotation[0, 0])
    pitch = np.arctan2(-rotation[2, 0], np.hypot(rotation[2, 1], rotation[2, 2]))
    roll = np.arctan2(rotation[2, 1], rotation[2, 2])
    level = np.array([[np.cos(yaw), np.sin(yaw), 0], [-np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    scale = np.cos(np.radians(_LATITUDE)) * _EARTH_RADIUS
    northing = np.log(np.tan(np.pi / 4 + np.radians(_LATITUDE) / 2)) + pose[1, 3] / scale
    latitude = np.degrees(2 * np.arctan(np.exp(northing)) - np.pi / 2)
    longitude = _LONGITUDE + np.degrees(pose[0, 3] / scale)
    values = [latitude, longitude, pose[2, 3], roll, pitch, yaw, velocity[1], velocity[0]]
    values += [*(level @ velocity), *(rotation.T @ acceleration), *(level @ acceleration)]
    values += [*rates, *rates, 0.05, 0.01]
    return " ".join([*(f"{value:.14g}" for value in values), "4 10 4 4 0"]) + "\n"


def _split(transform: NDArray[np.float64]) -> dict[str, str]:
    """Formats rotation and translation of a transform (4, 4)."""
    return {"R": _join(transform[:3, :3]), "T": _join(transform[:3, 3])}


def _join(values: object) -> str:
    return " ".join(f"{value:.12e}" for value in np.asarray(values, float).ravel())
