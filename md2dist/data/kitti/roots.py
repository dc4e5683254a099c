"""Opening of --kitti-root, and reports of what is in it and around it."""

import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from md2dist.data.kitti.finder import MAX_ENTRIES, RAW_CALIBRATION, looks_like_kitti, search
from md2dist.data.kitti.layout import is_odometry
from md2dist.data.kitti.places import Folder, scan
from md2dist.data.kitti.tree import SourceTree
from md2dist.data.kitti.zip_files import FAULTS, Archive
from md2dist.errors import KittiAccessError, KittiDataError

_NUM_NAMED = 3
# Searched in each folder above a root:
_MAX_ENTRIES_AROUND = 5000  # files and folders
_MAX_ARCHIVES_AROUND = 100


def open_kitti(*roots: Path) -> SourceTree:
    """Opens folders and archives of KITTI files after checking that they hold some.

    Raises:
        KittiDataError: if one is neither a folder nor an archive, or all are without KITTI files.
        KittiAccessError: if access to one is denied.
    """
    for root in roots:
        try:
            _check_root(root)
        except OSError as error:
            raise KittiAccessError(
                f"--kitti-root {root} cannot be read ({error.strerror}); check its permissions"
            ) from None
    tree = SourceTree(*roots)
    if not any(tree.contents().values()) and tree.is_searched():
        tree.folders()  # raises the errors of archives
        raise KittiDataError(
            f"--kitti-root {' '.join(map(str, roots))}: expected drives of KITTI raw, sequences of "
            f"KITTI odometry or annotated depth, extracted or as zip archives; "
            f"{describe_roots(tree)}{_point_elsewhere(roots, _has_drives)}"
        )
    return tree


def describe_roots(tree: SourceTree) -> str:
    """Describes the contents of the roots of a tree, for messages."""
    texts = [f"{root} holds {_summarize(root, names)}" for root, names in tree.contents().items()]
    if not tree.is_searched():
        texts.append(
            f"only {MAX_ENTRIES} files and folders were searched: name the folder of the drives"
        )
    return "; ".join(texts)


def explain_missing(tree: SourceTree, drive: str, *, use_scans: bool, use_annotated: bool) -> str:
    """Returns what is in the roots, and where a missing part of a drive may be found.

    Args:
        tree: tree of KITTI files.
        drive: name of a drive or sequence.
        use_scans: whether its laser scans are needed.
        use_annotated: whether its annotated depth is needed.

    Returns:
        The end of an error message; empty if no part of the drive is missing as a whole.
    """
    date, _, name = drive.rpartition("/")
    parts = [f"sequences/{drive}"] if is_odometry(drive) else [f"{drive}/image_0"]
    parts += [f"{date}/{RAW_CALIBRATION[0]}"] * bool(date)
    parts += [f"{drive}/velodyne_points"] * (use_scans and bool(date))
    parts += [f"{name}/proj_depth"] * use_annotated
    names = set().union(*tree.contents().values())
    unsynced = drive.replace("_sync", "_extract")
    if unsynced != drive and _holds(names, f"{unsynced}/") and not _holds(names, parts[0]):
        return f"; {unsynced} is the unsynced and unrectified recording: download {drive}"
    for part in parts:
        if not _holds(names, part):
            return f"; {describe_roots(tree)}" + _point_elsewhere(
                tree.roots, lambda found, part=part: _holds(found, part)
            )
    return ""


def _check_root(root: Path) -> None:
    if not root.is_dir() and not (root.is_file() and zipfile.is_zipfile(root)):
        raise KittiDataError(
            f"--kitti-root {root} {'is a file' if root.exists() else 'does not exist'}; "
            "expected a folder of KITTI archives or of files extracted from them"
            + _point_elsewhere([root], _has_drives)
        )


def _has_drives(names: set[str]) -> bool:
    return not all(name.endswith(RAW_CALIBRATION) for name in names)


def _holds(names: Iterable[str], part: str) -> bool:
    return any(f"/{part}" in f"/{name}" for name in names)


def _summarize(root: Path, names: set[str]) -> str:
    split = [name.split("/") for name in sorted(names)]
    kinds = {
        "KITTI raw": ["/".join(p[:2]) for p in split if len(p) == 3 and p[-1] != "proj_depth"],
        "KITTI odometry": [p[1] for p in split if p[0] == "sequences"],
        "annotated depth": [p[-2] for p in split if p[-1] == "proj_depth"],
    }
    texts = [
        f"{kind} {_name_some(found)}"
        for kind, some in kinds.items()
        if (found := list(dict.fromkeys(some)))
    ]
    if names:
        return "; ".join(texts) or "calibrations only"
    try:
        entries = sorted(entry.name for entry in scan(root, _MAX_ENTRIES_AROUND))
    except KittiAccessError:
        entries = []
    return f"nothing of KITTI ({_name_some(entries) or 'no files'})"


def _name_some(names: list[str]) -> str:
    more = len(names) - _NUM_NAMED
    return ", ".join(names[:_NUM_NAMED]) + f" and {more} more" * (more > 0)


def _point_elsewhere(roots: Iterable[Path], is_match: Callable[[set[str]], bool]) -> str:
    """Returns the --kitti-root, one or two levels above a root, that holds a match."""
    paths = [path for root in roots for path in (root.absolute(), root.resolve())]
    for above in dict.fromkeys(above for path in paths for above in path.parents[:2]):
        for name, place in _search_above(above):
            if is_match({name}):
                return f"; --kitti-root {place} would find {name}"
    return ""


def _search_above(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yields the names of what is found, and the folders that would find them."""
    found, archives, *_ = search(Folder(folder), _MAX_ENTRIES_AROUND)
    for name, path in found:
        parts, names = path.split("/"), name.split("/")
        while parts and names and parts[-1] == names[-1]:
            parts.pop()
            names.pop()
        yield name, folder.joinpath(*parts)
    for path in list(filter(looks_like_kitti, archives))[:_MAX_ARCHIVES_AROUND]:
        try:
            names = Archive(folder / path, "").found
        except FAULTS:
            continue
        yield from ((name, (folder / path).parent) for name, _ in names)
