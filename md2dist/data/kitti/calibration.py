"""Readers of calibration, speed, laser scans and annotated depth.

Source: Geiger, Lenz, Stiller, Urtasun: Vision meets Robotics: The KITTI Dataset, IJRR 2013, and
the readme of the raw data development kit; for the annotated depth Uhrig, Schneider, Schneider,
Franke, Brox, Geiger: Sparsity Invariant CNNs, 3DV 2017.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from md2dist.data.images import decode_depth
from md2dist.data.kitti.calibration_file import CalibrationFile
from md2dist.data.kitti.layout import RAW_CALIBRATION, calibration_files, is_odometry
from md2dist.data.kitti.tree import SourceTree, naming_the_roots
from md2dist.errors import KittiDataError
from md2dist.storage.bounded import decode_text

_SCAN_RANGE = 1000.0  # m; KITTI's scanner reaches 120 m
_MAX_SIZE = 1 << 14  # rows or columns


class Calibration(NamedTuple):
    """Calibration of the rectified cameras 0..3 on one recording date."""

    P_rect: np.ndarray  # (4, 3, 4) float64: rectified camera 0 -> pixels of camera i
    R_rect_00: np.ndarray  # (3, 3) float64: camera 0 -> rectified camera 0
    velo_to_cam: np.ndarray  # (4, 4) float64: velodyne -> camera 0, m; NaN: not read
    sizes: np.ndarray  # (4, 2) int64: height, width of each rectified image, pixels; 0: unknown

    @property
    def K(self) -> np.ndarray:  # noqa: N802
        """Intrinsics of each rectified camera (4, 3, 3), native pixels, centres at integers."""
        return self.P_rect[:, :, :3]

    @property
    def baseline(self) -> float:
        """Distance between the two colour cameras along x, m; not finite if a P_rect is 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            x_left, x_right = self.P_rect[[2, 3], 0, 3] / self.P_rect[[2, 3], 0, 0]
            return float(x_left - x_right)

    def with_size(self, height: int, width: int) -> "Calibration":
        """Returns a copy in which unknown image sizes are set to a height and width in pixels."""
        return self._replace(sizes=np.where(self.sizes, self.sizes, (height, width)))


def load_calibration(date_folder: str | Path) -> Calibration:
    """Reads ``calib_cam_to_cam.txt`` and ``calib_velo_to_cam.txt`` of a recording date.

    Raises:
        KittiDataError: if a file is missing, or lacks an entry or some of its numbers.
    """
    tree = SourceTree(date_folder)
    with naming_the_roots(tree):
        return _parse_raw(*(CalibrationFile(tree, name) for name in RAW_CALIBRATION))


def read_calibration(tree: SourceTree, drive: str, *, use_scans: bool = True) -> Calibration:
    """Reads the calibration of a drive of KITTI raw, or of a sequence of KITTI odometry.

    Args:
        tree: tree of KITTI files.
        drive: name of the drive or sequence.
        use_scans: whether laser scans will be projected, so that the scanner's pose is needed; only
            one of the KITTI odometry archives contains it.

    Raises:
        KittiDataError: if a file is missing, or lacks an entry or some of its numbers.
    """
    first, *others = (CalibrationFile(tree, name) for name in calibration_files(drive))
    return _parse_odometry(first, use_scans) if is_odometry(drive) else _parse_raw(first, *others)


def read_speed(tree: SourceTree, drive: str, frame: int) -> float:
    """Reads the speed of the car from its navigation (OXTS) record.

    Returns:
        Horizontal speed, m/s: the norm of the velocities to the north and east.

    Raises:
        KittiDataError: if the record is missing, too short, or its velocities are not finite
            numbers.
    """
    name = f"{drive}/oxts/data/{frame:010d}.txt"
    content = decode_text(tree.read(name), f"navigation record {name}", KittiDataError)
    try:
        _, _, _, _, _, _, north, east, *_ = map(float, content.split())
    except ValueError:
        raise KittiDataError(f"navigation record {name}: expected >= 8 numbers") from None
    speed = math.hypot(north, east)
    if not math.isfinite(speed):
        raise KittiDataError(
            f"navigation record {name} has the velocities {north} and {east} m/s; expected finite "
            "numbers"
        )
    return speed


def read_scan(tree: SourceTree, name: str) -> np.ndarray:
    """Reads a laser scan.

    Returns:
        Points (N, 4) float32: x forwards, y to the left, z upwards in m, and reflectance.

    Raises:
        KittiDataError: if the file is missing, empty, not a whole number of points, or holds
            points that no scanner measures, as those of another type or layout are.
    """
    content = tree.read(name)
    if not content or len(content) % 16:
        raise KittiDataError(
            f"laser scan {name} has {len(content)} bytes; expected a positive multiple of 16"
        )
    points = np.frombuffer(content, "<f4").reshape(-1, 4)
    is_possible = (np.abs(points[:, :3]) <= _SCAN_RANGE).all(1)  # false for NaN
    is_possible &= (points[:, 3] >= 0) & np.isfinite(points[:, 3])
    if not is_possible.all():
        raise KittiDataError(
            f"laser scan {name}: {np.count_nonzero(~is_possible)} of its {len(points)} points are "
            f"impossible; expected float32 x, y, z within {_SCAN_RANGE:g} m and a reflectance >= 0"
        )
    return points


def read_annotated(tree: SourceTree, name: str) -> np.ndarray:
    """Reads annotated depth, which accumulates the laser scans of neighbouring frames.

    Returns:
        Depth (H, W) float32 in m, 0 where unknown.

    Raises:
        KittiDataError: if the file is missing, damaged, not 16-bit greyscale, or without any depth.
    """
    return decode_depth(tree.read(name), f"annotated depth {name}")


def _parse_raw(cameras: CalibrationFile, velodyne: CalibrationFile) -> Calibration:
    rotation, translation = velodyne.read("R", 3, 3), velodyne.read("T", 3, 1)
    widths_heights = np.stack([cameras.read(f"S_rect_0{i}", 2) for i in range(4)])
    if not ((widths_heights >= 1) & (widths_heights <= _MAX_SIZE)).all():
        raise KittiDataError(
            f"{cameras.file}: the entries S_rect are {widths_heights.tolist()}; expected the width "
            f"and height of images in pixels, 1 to {_MAX_SIZE}"
        )
    return Calibration(
        P_rect=np.stack([cameras.read(f"P_rect_0{i}", 3, 4) for i in range(4)]),
        R_rect_00=cameras.read("R_rect_00", 3, 3),
        velo_to_cam=_square(np.hstack([rotation, translation])),
        sizes=widths_heights[:, ::-1].astype(np.int64),
    )


def _parse_odometry(entries: CalibrationFile, use_scans: bool) -> Calibration:
    try:
        velo_to_cam = entries.read("Tr", 3, 4) if use_scans else np.full((3, 4), np.nan)
    except KittiDataError as error:
        raise KittiDataError(
            f"{error}, which --ground-truth velodyne needs; it is in data_odometry_calib.zip, and "
            "not in other archives"
        ) from None
    return Calibration(
        P_rect=np.stack([entries.read(f"P{i}", 3, 4) for i in range(4)]),
        R_rect_00=np.eye(3),  # Tr already maps to the rectified camera
        velo_to_cam=_square(velo_to_cam),
        sizes=np.zeros((4, 2), np.int64),
    )


def _square(transform: np.ndarray) -> np.ndarray:
    """Extends a transform (3, 4) to homogeneous (4, 4)."""
    return np.vstack([transform, [0, 0, 0, 1]])
