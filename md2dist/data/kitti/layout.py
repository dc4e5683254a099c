"""File layout of the drives of KITTI raw and the sequences of KITTI odometry.

A drive of KITTI raw is called ``2011_09_26/2011_09_26_drive_0005_sync``, a sequence of KITTI
odometry ``09``. All paths are relative to the root of a `SourceTree`.
"""

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from posixpath import splitext
from typing import Literal, NamedTuple

from md2dist.data.image_reader import IMAGE_SUFFIXES
from md2dist.data.kitti.drives import SCANS_NOT_IN_KITTI
from md2dist.data.kitti.finder import DATE, RAW_CALIBRATION
from md2dist.data.kitti.tree import SourceTree
from md2dist.errors import KittiDataError

Side = Literal["l", "r"]
CAMERAS = {"l": 2, "r": 3}  # the two colour cameras
OTHER_SIDE: dict[Side, Side] = {"l": "r", "r": "l"}
_ANNOTATED_PARTS = "train/", "val/", ""  # in the order in which a map is searched
_UNRECTIFIED = re.compile(rf"/{DATE.pattern}_drive_\d+_extract$", re.ASCII)


class Layout(NamedTuple):
    """The folders and file names of a drive."""

    images: str  # folder of one camera's images
    scans: str  # folder of the laser scans
    num_digits: int  # width of the zero-padded frame number

    def name_frame(self, frame: int) -> str:
        """Returns a frame's file name without its suffix."""
        return f"{frame:0{self.num_digits}d}"


RAW = Layout("{drive}/image_{camera:02d}/data", "{drive}/velodyne_points/data", 10)
ODOMETRY = Layout("sequences/{drive}/image_{camera}", "sequences/{drive}/velodyne", 6)


def is_odometry(drive: str) -> bool:
    """Returns whether a name is that of a sequence of KITTI odometry."""
    return "/" not in drive


def find_layout(drive: str) -> Layout:
    """Returns the file layout of a drive."""
    return ODOMETRY if is_odometry(drive) else RAW


def camera_folder(drive: str, side: Side) -> str:
    """Returns the folder of one camera's images, which need not exist."""
    return find_layout(drive).images.format(drive=drive, camera=CAMERAS[side])


def find_image(tree: SourceTree, drive: str, frame: int, side: Side) -> str:
    """Finds one camera's image, as PNG or as JPEG; with several suffixes, the first of them.

    Raises:
        KittiDataError: if the frame or the camera's folder is missing, or the drive is present
            twice.
    """
    folder, stem = camera_folder(drive, side), find_layout(drive).name_frame(frame)
    present = tree.files(folder)
    for suffix in IMAGE_SUFFIXES:
        if f"{stem}{suffix}" in present:
            return f"{folder}/{stem}{suffix}"
    if not present:
        raise KittiDataError(f"no folder {folder}; download the drive {drive}")
    raise KittiDataError(f"no image {folder}/{stem}.png|jpg|jpeg")


def calibration_files(drive: str) -> list[str]:
    """Returns the calibration files of a drive, which need not exist."""
    if is_odometry(drive):
        return [f"sequences/{drive}/calib.txt"]
    return [f"{drive.partition('/')[0]}/{name}" for name in RAW_CALIBRATION]


def find_scan(tree: SourceTree, drive: str, frame: int) -> str:
    """Finds one laser scan.

    Raises:
        KittiDataError: if the scan is missing, or the drive is present twice.
    """
    layout = find_layout(drive)
    folder, name = layout.scans.format(drive=drive), f"{layout.name_frame(frame)}.bin"
    present = tree.files(folder)
    if name in present:
        return f"{folder}/{name}"
    missing = SCANS_NOT_IN_KITTI.get(drive, range(0))
    archive = "data_odometry_velodyne.zip" if is_odometry(drive) else f"the drive {drive}"
    if frame in missing:
        remedy = f"KITTI itself has none for the frames {missing[0]} to {missing[-1]} of {drive}"
        remedy = f"{remedy}: leave them out of the split"
    elif any(other.endswith(".bin") for other in present):
        remedy = f"other scans are there: KITTI itself lacks a few, else extract {archive} again"
    else:
        remedy = f"download {archive}"
    raise KittiDataError(
        f"no laser scan {folder}/{name}; {remedy}, or pack with --ground-truth none"
    )


def list_scans(tree: SourceTree, drive: str) -> set[int]:
    """Lists the frames that have a laser scan.

    Raises:
        KittiDataError: if the drive is present twice.
    """
    folder = find_layout(drive).scans.format(drive=drive)
    return _list_numbers(tree.files(folder), (".bin",))


def find_annotated(tree: SourceTree, drive: str, frame: int, side: Side) -> str:
    """Finds one camera's annotated depth, in the layout of ``data_depth_annotated.zip``.

    Raises:
        KittiDataError: if the map is missing, or the drive is present twice.
    """
    folder, name = _annotated_folder(drive, side), f"{frame:010d}.png"
    for part in _ANNOTATED_PARTS:
        if name in tree.files(part + folder):
            return f"{part}{folder}/{name}"
    raise KittiDataError(
        f"no annotated depth {folder}/{name}, neither below train/ nor val/; add the folder of "
        "data_depth_annotated to --kitti-root (it lacks a few frames)"
    )


def list_annotated(tree: SourceTree, drive: str, side: Side) -> set[int]:
    """Lists the frames that have annotated depth of one camera.

    Raises:
        KittiDataError: if the drive is present twice.
    """
    folder = _annotated_folder(drive, side)
    names = set().union(*(tree.files(part + folder) for part in _ANNOTATED_PARTS))
    return _list_numbers(names, (".png",))


def list_sequences(tree: SourceTree) -> list[str]:
    """Lists the rectified drives and the sequences in a tree that have images, of any name.

    Raises:
        KittiDataError: if an archive is damaged, or the tree is too large to be searched.
    """
    tree.folders()  # raises the errors of archives
    if not tree.is_searched():
        raise KittiDataError(
            f"{tree} holds too many files and folders to find all sequences in it; name the "
            "folders of the drives, or use a split that lists them"
        )
    found = {tuple(name.split("/")) for names in tree.contents().values() for name in names}
    cameras = {f"image_{camera:02d}" for camera in CAMERAS.values()}
    drives = {f"{name[0]}/{name[1]}" for name in found if len(name) == 3 and name[2] in cameras}
    sequences = {name[1] for name in found if len(name) == 2 and name[0] == "sequences"}
    return sorted({name for name in drives if not _UNRECTIFIED.search(name)} | sequences)


def list_drives(tree: SourceTree) -> list[str]:
    """Lists the synced drives of KITTI raw in a tree.

    Raises:
        KittiDataError: if an archive is broken.
    """
    return [
        f"{date}/{drive}"
        for date in tree.folders()
        if DATE.fullmatch(date)  # other folders may be unreadable, e.g. lost+found
        for drive in tree.folders(date)
        if fnmatchcase(drive, f"{date}_drive_*_sync")
    ]


def list_frames(tree: SourceTree, drive: str, side: Side) -> set[int]:
    """Lists the frames that have an image of one camera; empty if the camera is missing.

    Raises:
        KittiDataError: if the drive is present twice.
    """
    return _list_numbers(tree.files(camera_folder(drive, side)), IMAGE_SUFFIXES)


def _annotated_folder(drive: str, side: Side) -> str:
    return f"{drive.rpartition('/')[2]}/proj_depth/groundtruth/image_{CAMERAS[side]:02d}"


def _list_numbers(names: Iterable[str], suffixes: Sequence[str]) -> set[int]:
    parts = map(splitext, names)
    return {int(stem) for stem, suffix in parts if suffix in suffixes and stem.isdecimal()}
