"""The KITTI raw tree: where its files lie, and what its calibration says.

Source: Geiger, Lenz, Stiller, Urtasun: Vision meets Robotics: The KITTI Dataset, IJRR 2013, with
the readme of the raw data development kit.
"""

import math
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from md2dist.errors import KittiError

Side = Literal["l", "r"]
CAMERAS = {"l": 2, "r": 3}  # the two colour cameras
OTHER_SIDE: dict[Side, Side] = {"l": "r", "r": "l"}
_IMAGE_FORMATS = ("png", "jpg")


class Calibration(NamedTuple):
    """What one recording date's calibration files say about the rectified cameras 0..3."""

    P_rect: np.ndarray  # (4, 3, 4) float64: rectified camera 0 -> pixels of camera i
    R_rect_00: np.ndarray  # (3, 3) float64: camera 0 -> rectified camera 0
    velo_to_cam: np.ndarray  # (4, 4) float64: velodyne -> camera 0, m
    sizes: np.ndarray  # (4, 2) int64: height and width of each rectified image, pixels

    @property
    def K(self) -> np.ndarray:  # noqa: N802
        """Intrinsics of each rectified camera (4, 3, 3), native pixels, centres at integers."""
        return self.P_rect[:, :, :3]

    @property
    def baseline(self) -> float:
        """Distance of the two colour cameras along x, m."""
        x_left, x_right = self.P_rect[[2, 3], 0, 3] / self.P_rect[[2, 3], 0, 0]
        return float(x_left - x_right)


def load_calibration(date_folder: str | Path) -> Calibration:
    """Reads ``calib_cam_to_cam.txt`` and ``calib_velo_to_cam.txt`` of a recording date.

    Raises:
        KittiError: if a file is missing, or lacks an entry or some of its numbers.
    """
    cameras = _Entries(Path(date_folder) / "calib_cam_to_cam.txt")
    velodyne = _Entries(Path(date_folder) / "calib_velo_to_cam.txt")
    velo_to_cam = np.eye(4)
    velo_to_cam[:3, :3] = velodyne.read("R", 3, 3)
    velo_to_cam[:3, 3] = velodyne.read("T", 3)
    widths_heights = np.stack([cameras.read(f"S_rect_0{i}", 2) for i in range(4)])
    return Calibration(
        P_rect=np.stack([cameras.read(f"P_rect_0{i}", 3, 4) for i in range(4)]),
        R_rect_00=cameras.read("R_rect_00", 3, 3),
        velo_to_cam=velo_to_cam,
        sizes=widths_heights[:, ::-1].astype(np.int64),
    )


def camera_folder(root: str | Path, drive: str, side: Side) -> Path:
    """Names the folder of one camera's images, which need not exist."""
    return Path(root) / drive / f"image_0{CAMERAS[side]}" / "data"


def image_path(root: str | Path, drive: str, frame: int, side: Side) -> Path:
    """Finds one camera's image, as PNG or as JPEG.

    Args:
        root: folder of the dates.
        drive: date and drive, e.g. ``2011_09_26/2011_09_26_drive_0005_sync``.
        frame: number of the frame.
        side: ``l`` is camera 2, ``r`` is camera 3.

    Raises:
        KittiError: if the frame, or the whole camera, is not there.
    """
    folder = camera_folder(root, drive, side)
    for suffix in _IMAGE_FORMATS:
        path = folder / f"{frame:010d}.{suffix}"
        if path.is_file():
            return path
    if not folder.is_dir():
        raise KittiError(f"no folder {folder}; download and extract the synced drive {drive}")
    raise KittiError(f"no image {folder / f'{frame:010d}'}.{'|'.join(_IMAGE_FORMATS)}")


def list_drives(root: str | Path) -> list[str]:
    """Lists the synced drives of a tree by name, e.g. ``DATE/DATE_drive_0005_sync``."""
    folders = Path(root).glob("*/*_drive_*_sync")
    return sorted(f"{folder.parent.name}/{folder.name}" for folder in folders if folder.is_dir())


def list_frames(root: str | Path, drive: str, side: Side) -> set[int]:
    """Lists the frames of which one camera's image is there; none where the camera is missing."""
    images = camera_folder(root, drive, side).glob("*.*")
    suffixes = {f".{suffix}" for suffix in _IMAGE_FORMATS}
    return {int(path.stem) for path in images if path.suffix in suffixes and path.stem.isdigit()}


def load_speed(root: str | Path, drive: str, frame: int) -> float:
    """Reads how fast the car was, from the record of its navigation unit.

    Returns:
        Length of the velocity to the north and east, m/s.

    Raises:
        KittiError: if the record is missing, or too short, or not of numbers.
    """
    path = Path(root) / drive / "oxts" / "data" / f"{frame:010d}.txt"
    try:
        _, _, _, _, _, _, north, east, *_ = map(float, path.read_text().split())
    except OSError as error:
        raise KittiError(
            f"navigation record {path} cannot be read ({error.strerror}); extract {drive} anew"
        ) from None
    except ValueError:
        raise KittiError(f"navigation record {path} is not 8 or more numbers") from None
    return math.hypot(north, east)


def velodyne_path(root: str | Path, drive: str, frame: int) -> Path:
    """Names the file of one laser scan, which need not exist."""
    return Path(root) / drive / "velodyne_points" / "data" / f"{frame:010d}.bin"


def load_velodyne(path: str | Path) -> np.ndarray:
    """Reads a laser scan.

    Returns:
        Points (N, 4) float32: x forwards, y to the left, z upwards in m, and reflectance.

    Raises:
        KittiError: if the file is missing or is not a whole number of points.
    """
    try:
        values = np.frombuffer(Path(path).read_bytes(), np.uint8)
    except OSError as error:
        raise KittiError(f"laser scan {path} cannot be read ({error.strerror})") from None
    if values.size == 0 or values.size % 16:
        raise KittiError(f"laser scan {path} has {values.size} bytes, not a multiple of 16")
    return values.view("<f4").reshape(-1, 4)


class _Entries:
    """The ``name: numbers`` lines of a calibration file."""

    def __init__(self, path: Path):
        self.path = path
        try:
            lines = path.read_text().splitlines()
        except (OSError, UnicodeDecodeError):
            raise KittiError(
                f"no readable calibration file {path}; extract {path.parent.name}_calib.zip"
            ) from None
        self.texts = dict(line.split(":", 1) for line in lines if ":" in line)

    def read(self, name: str, *shape: int) -> np.ndarray:
        try:
            return np.array(self.texts[name].split(), np.float64).reshape(shape)
        except (KeyError, ValueError):
            raise KittiError(
                f"{self.path}: expected an entry {name} of {int(np.prod(shape))} numbers"
            ) from None
