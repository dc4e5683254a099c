"""Poses of KITTI odometry: ground truth, and trajectories in its format.

A file has one line per frame: the 3x4 matrix that maps points of the camera at that frame to the
world, row by row. The world is the camera at frame 0.
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from md2dist.data.kitti.finder import is_archive
from md2dist.data.kitti.places import Folder, explain_fault
from md2dist.data.kitti.zip_files import FAULTS, Archive
from md2dist.errors import KittiDataError, Md2distError
from md2dist.storage.bounded import decode_text, open_regular, read_bounded

_MAX_BYTES = 64 << 20  # KITTI's longest file has 0.7 MB
_MAX_LINE = 1000  # characters; KITTI's have 170
_MAX_SKEW = 1e-2  # largest deviation of R R^T from the identity; KITTI's is below 1e-5
_FOLDERS = ("", "poses/", "dataset/poses/")  # below --poses, where the files may be
_EXPECTED = (
    "expected 12 numbers per frame, as in KITTI's data_odometry_poses.zip: a rotation matrix and a "
    "position, row by row"
)


def read_poses(source: Path, drive: str) -> NDArray[np.float64]:
    """Reads the poses of a sequence.

    Args:
        source: a file of poses, or a folder or archive that holds ``poses/NN.txt``, such as
            data_odometry_poses.zip.
        drive: the sequence, e.g. ``09``, or a drive; names the file in a folder or archive.

    Returns:
        (N, 3, 4) float64, camera to world, m; line i is frame i.

    Raises:
        KittiDataError: if the file is missing or damaged, or is not one of poses.
        KittiAccessError: if access to it is denied.
    """
    name, content = _read_file(source, drive)
    lines = decode_text(content, name, KittiDataError).rstrip().splitlines()
    if not lines:
        raise KittiDataError(f"{name} has no poses; {_EXPECTED}")
    return np.stack([_parse_pose(line, f"{name}, line {i}") for i, line in enumerate(lines, 1)])


def format_poses(poses: NDArray[np.floating]) -> str:
    """Writes poses (N, 3, 4) or (N, 4, 4) as the text of a file."""
    rows = poses[:, :3].reshape(len(poses), 12)
    return "".join(" ".join(f"{value:.9e}" for value in row) + "\n" for row in rows)


def is_trajectory(path: Path) -> bool:
    """Returns whether a file begins as `format_poses` writes it; KITTI's have fewer digits."""
    try:
        with open_regular(path) as file:
            line = file.read(_MAX_LINE).partition(b"\n")[0]
    except OSError:
        return False
    return re.fullmatch(rb"(-?\d\.\d{9}e[+-]\d\d ?){12}", line) is not None


def _read_file(source: Path, drive: str) -> tuple[str, bytes]:
    """Finds and reads the file of a drive; returns its name for messages, and its content."""
    try:
        if is_archive(source.name) and source.is_file():
            return _read_archive(source, drive)
        if source.is_dir():
            source = source / _find_name(Folder(source), source, drive)
        return str(source), read_bounded(source, _MAX_BYTES)
    except OSError as error:
        reason = error.strerror or error
        raise KittiDataError(
            f"no poses can be read from {source} ({reason}); expected a file of poses, a folder "
            f"with {drive}.txt, or data_odometry_poses.zip"
        ) from None


def _read_archive(path: Path, drive: str) -> tuple[str, bytes]:
    try:
        archive = Archive(path, f"in {path}")
        name = _find_name(archive, path, drive)
        return f"{name} in {path}", archive.read(name)
    except Md2distError:
        raise
    except FAULTS as error:
        raise explain_fault(str(path), path, error) from None


def _find_name(place: Folder | Archive, source: Path, drive: str) -> str:
    if re.fullmatch(r"[\w-]+", drive):  # no path
        for folder in _FOLDERS:
            if place.size(name := f"{folder}{drive}.txt") is not None:
                return name
    raise KittiDataError(
        f"{source} has no poses {drive}.txt, nor poses/{drive}.txt; KITTI publishes those of "
        "sequences 00 to 10 in data_odometry_poses.zip; pass those of other drives as a file"
    )


def _parse_pose(line: str, place: str) -> NDArray[np.float64]:
    """Returns the pose (3, 4) of a line of 12 numbers."""
    try:
        pose = np.array([float(word) for word in line[:_MAX_LINE].split()])
    except ValueError:
        pose = np.array([])
    if pose.size != 12 or len(line) > _MAX_LINE:
        shown = line[:60] + "..." * (len(line) > 60)
        raise KittiDataError(f"{place}: {shown!r}; {_EXPECTED}")
    if not np.isfinite(pose).all():
        raise KittiDataError(f"{place} has a number that is not finite; {_EXPECTED}")
    pose = pose.reshape(3, 4)
    rotation = pose[:, :3]
    with np.errstate(over="ignore", invalid="ignore"):
        skew = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if not skew < _MAX_SKEW or np.linalg.det(rotation) < 0:
        raise KittiDataError(f"{place}: its first three columns are no rotation; {_EXPECTED}")
    return pose
