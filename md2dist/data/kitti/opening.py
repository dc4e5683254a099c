"""Opening of the places of KITTI files in a root: its folders and archives."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from md2dist.data.kitti.finder import (
    DRIVE_PARTS,
    RAW_CALIBRATION,
    Found,
    is_archive,
    looks_like_kitti,
    search,
)
from md2dist.data.kitti.places import Folder, FoundFolder, Place, explain_fault, may_be, scan
from md2dist.data.kitti.zip_files import FAULTS, Archive
from md2dist.errors import KittiAccessError, Md2distError

_MAX_ARCHIVES = 1000  # in folders below a root


class Opened(NamedTuple):
    """Places of KITTI files, in the order in which a file is searched in them."""

    places: list[Place]
    found: list[Found]  # what a search finds in them
    errors: list[Md2distError]  # of archives and folders that cannot be read
    is_complete: bool = True  # False: there are too many files and folders to search


def open_root(root: Path, suffix: str) -> Opened:
    """Opens a folder and the archives directly in it, or a single archive.

    Args:
        root: the folder or archive.
        suffix: rest of the labels of the places.
    """
    if may_be(root.is_file, unknown=False):
        return _open_archives([(root, root.name)], suffix)
    folder = Folder(root, f"extracted{suffix}")
    try:
        entries = scan(root)
    except KittiAccessError as error:  # extracted files may suffice
        return Opened([folder], [], [error])
    names = [e.name for e in entries if is_archive(e.name) and not may_be(e.is_dir, unknown=False)]
    opened = _open_archives([(root / name, name) for name in sorted(names)], suffix)
    return opened._replace(places=[folder, *opened.places])


def search_root(root: Path, suffix: str) -> Opened:
    """Searches a folder for KITTI files in other folders than those of the published layout.

    Args:
        root: the folder; of another file nothing is found.
        suffix: rest of the labels of the places.
    """
    folder = Folder(root)
    found, archives, errors, is_complete = search(folder)
    places = [
        FoundFolder(folder, piece, suffix)
        for piece in [*found, *_calibrations_beside(root, found)]
        if piece.name != piece.path
    ]
    below = [path for path in archives if "/" in path]
    opened = _open_archives([(root / path, path) for path in below[:_MAX_ARCHIVES]], suffix)
    return Opened(
        [*places, *opened.places],
        [*found, *opened.found],
        [*errors, *opened.errors],
        is_complete and len(below) <= _MAX_ARCHIVES,
    )


def _open_archives(archives: list[tuple[Path, str]], suffix: str) -> Opened:
    """Opens archives at paths; errors name them relative to the root.

    Archives in folders below the root have errors only if their names are those of KITTI's.
    """
    opened = Opened([], [], [])
    for path, name in archives:
        label = f"{name}{suffix}"
        try:
            archive = Archive(path, f"in {label}")
            opened.places.append(archive)
            opened.found.extend(archive.found)
            for inner in archive.open_archives():
                opened.places.append(inner)
                opened.found.extend(inner.found)
        except FAULTS as error:
            if "/" not in name or looks_like_kitti(name):
                is_ours = isinstance(error, Md2distError)
                opened.errors.append(error if is_ours else explain_fault(label, path, error))
    return opened


def _calibrations_beside(root: Path, found: Sequence[Found]) -> list[Found]:
    """Finds the calibrations of a root that is a drive's folder, in the folder of its date."""
    dates = {name.partition("/")[0] for name, path in found if path in DRIVE_PARTS}
    names = {name for name, _ in found}
    return [
        Found(f"{date}/{file}", f"../{file}")
        for date in sorted(dates)
        for file in RAW_CALIBRATION
        if f"{date}/{file}" not in names and may_be((root / ".." / file).is_file, unknown=False)
    ]
