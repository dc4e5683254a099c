"""Finder of KITTI's drives, sequences, calibrations and annotated depth in any folders.

It recognizes a folder by its contents, in any folders around it, and gives it the name that it has
in the published layout.
"""

import re
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from md2dist.errors import KittiAccessError

RAW_CALIBRATION = "calib_cam_to_cam.txt", "calib_velo_to_cam.txt"  # in a date's folder
DATE = re.compile(r"\d{4}_\d\d_\d\d", re.ASCII)
_DRIVE = re.compile(rf"({DATE.pattern})_drive_\d+_sync", re.ASCII)
_SEQUENCE = re.compile(r"\d\d", re.ASCII)
_OWN_SEQUENCE = re.compile(r"[\w-]+", re.ASCII)  # only in a folder `sequences`
_NAMES = re.compile("data_odometry|data_depth|sequences$|kitti", re.IGNORECASE)
DRIVE_PARTS = {"image_00", "image_01", "image_02", "image_03", "oxts", "velodyne_points"}
_SEQUENCE_PARTS = {"image_2", "image_3", "velodyne"}
_DEPTH = "proj_depth"  # in a drive's folder, of the annotated depth
_NO_DATA = {"__MACOSX", "lost+found", "$RECYCLE.BIN", "System Volume Information"}
_VIRTUAL = {"dev", "proc", "run", "sys"}  # below the root of the file system
_MAX_DEPTH = 5  # levels below the folder that is searched
MAX_ENTRIES = 50_000  # files and folders
MAX_FOLDER = 10_000  # entries of a folder that may group drives


class Listing(NamedTuple):
    """The names of the folders and files in a folder."""

    folders: set[str]
    files: set[str]
    is_complete: bool = True  # False: there are more than the limit, and these are omitted


class Searchable(Protocol):
    """A folder or an archive."""

    @property
    def top(self) -> str:
        """Name of the folder itself; of an archive, its name without the suffix."""
        ...

    def identify(self, folder: str) -> object:
        """Returns a value that a folder has under all of its paths; None: skip it."""
        ...

    def list(self, folder: str, limit: int) -> Listing:
        """Lists a folder of at most `limit` entries."""
        ...


class Found(NamedTuple):
    """A folder or file of KITTI."""

    name: str  # in the published layout, e.g. 2011_09_26/2011_09_26_drive_0005_sync/image_02
    path: str  # below the folder that was searched


class Search(NamedTuple):
    """Results of a search, in a fixed order."""

    found: list[Found]
    archives: list[str]  # paths of zip archives
    errors: list[KittiAccessError]  # of folders that may hold KITTI, by their names
    is_complete: bool  # False: there are too many files and folders


def is_archive(name: str) -> bool:
    """Returns whether a name is that of a zip archive."""
    return name.lower().endswith(".zip") and not name.startswith(".")  # e.g. macOS resource forks


def looks_like_kitti(path: str) -> bool:
    """Returns whether a folder or an archive has a name of KITTI's."""
    parent, name = ("", *path.split("/"))[-2:]
    is_sequence = parent == "sequences" and _OWN_SEQUENCE.fullmatch(name)
    return bool(DATE.match(name) or _NAMES.match(name) or is_sequence)


def search(place: Searchable, max_entries: int = MAX_ENTRIES) -> Search:
    """Searches a folder or an archive: names of KITTI's first, else the upper levels first.

    Links are followed, but no folder is entered twice.

    Args:
        place: the folder or archive.
        max_entries: number of files and folders after which the search ends.
    """
    found: list[Found] = []
    archives: list[str] = []
    errors: list[KittiAccessError] = []
    is_complete = True
    left = max_entries
    known: set[object] = {None}
    waiting = deque([("", 0)])
    while waiting:
        if left <= 0:
            is_complete = False
            break
        folder, depth = waiting.popleft()
        identity = place.identify(folder)
        if identity in known:
            continue
        known.add(identity)
        try:
            listing = place.list(folder, min(left, MAX_FOLDER))
        except KittiAccessError as error:
            errors += [error] * looks_like_kitti(folder)
            continue
        left -= len(listing.folders) + len(listing.files)
        if not listing.is_complete:
            is_complete = False
            left -= MAX_FOLDER
            continue
        start = f"{folder}/" * bool(folder)
        pieces = list(_recognize(place.top, folder, listing))
        found += [Found(name, f"{start}{inner}".rstrip("/")) for name, inner in pieces]
        archives += [f"{start}{name}" for name in sorted(listing.files) if is_archive(name)]
        if depth < _MAX_DEPTH and all(inner in RAW_CALIBRATION for _, inner in pieces):
            inside = sorted(listing.folders - (_NO_DATA if place.top else _NO_DATA | _VIRTUAL))
            paths = [f"{start}{name}" for name in inside if name[0] != "."]
            ours = [path for path in paths if looks_like_kitti(path)]
            waiting.extend((path, depth + 1) for path in paths if path not in ours)
            waiting.extendleft((path, depth + 1) for path in reversed(ours))
    return Search(found, archives, errors, is_complete)


def _recognize(top: str, folder: str, listing: Listing) -> Iterator[tuple[str, str]]:
    """Yields published names, and the names in the folder."""
    parent, name = ("", top, *filter(None, folder.split("/")))[-2:]
    match = _DRIVE.match(name)
    drive = match[0] if match else name
    date = match[1] if match else parent
    if date:
        for part in sorted(DRIVE_PARTS & listing.folders):
            yield f"{date}/{drive}/{part}", part
    if _DEPTH in listing.folders:
        part = f"{parent}/" * (parent in ("train", "val") and "/" in folder)
        yield f"{part}{drive}/{_DEPTH}", _DEPTH
    names = _OWN_SEQUENCE if parent == "sequences" else _SEQUENCE
    if names.fullmatch(name) and (
        _SEQUENCE_PARTS & listing.folders or "calib.txt" in listing.files
    ):
        yield f"sequences/{name}", ""
    for file in RAW_CALIBRATION:
        if file in listing.files:
            yield f"{_find_date(name, listing)}/{file}", file


def _find_date(name: str, listing: Listing) -> str:
    """Returns the date of a folder with calibrations: in its name, or in that of its drives."""
    match = DATE.match(name)
    if match:
        return match[0]
    dates = {drive[1] for folder in listing.folders if (drive := _DRIVE.match(folder))}
    return dates.pop() if len(dates) == 1 else name
