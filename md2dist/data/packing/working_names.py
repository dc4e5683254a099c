"""Names in the working folder of a packing: which entries are ours, and which are left alone.

A packing's folder in it is named after the digest of its ``plan.json``, so it proves its origin.
Links are never followed. Files and folders of others are never deleted.
"""

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from md2dist.data.shards.manifest import MANIFEST_NAME
from md2dist.storage.atomic import set_aside
from md2dist.storage.bounded import read_bounded

logger = logging.getLogger(__name__)

PACKING_NAME = ".packing"
PACKED_NAME = ".packed"  # new name of the working folder once only its removal is left
LOCK_NAME = "lock"
PLAN_NAME = "plan.json"
IMAGES_NAME = "images"
REPLACED_NAME = "replaced.json"  # names in the output that the packing replaces
FINISHED_NAME = ".packed.json"
SKIPPED_NAME = "skipped.jsonl"
_MAX_PLAN_BYTES = 1 << 20
_DIGITS = 16
_PLAN_FOLDER = re.compile(rf"[0-9a-f]{{{_DIGITS}}}")
_RESULTS = "|".join(map(re.escape, (MANIFEST_NAME, REPLACED_NAME, FINISHED_NAME, SKIPPED_NAME)))
_PARTIAL = r"\.(?:{0})\.[0-9a-f]{{8}}"  # of a write that was killed


def _own(names: str) -> re.Pattern[str]:
    return re.compile(f"{names}|{_PARTIAL.format(names)}")


_OWN_RESULTS = _own(rf"(?:[0-9]{{6,}}\.(?:tar|json)|{_RESULTS})")
_OWN_PLAN = _own(r"plan\.json")
_OWN_IMAGES = _own(rf"(?:[0-9a-f]{{{_DIGITS}}}(?:\.json)?)")


def name_plan(content: bytes) -> str:
    """Returns the name of a packing's folder from the content of its ``plan.json``."""
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def list_plans(working: Path) -> list[Path]:
    """Lists the folders of packings in a working folder, which need not exist."""
    return [folder for folder in _plan_folders(working) if _is_own(folder)]


def is_file(path: Path) -> bool:
    """Returns whether a path is a regular file, and not a link to one."""
    return path.is_file() and not path.is_symlink()


def is_folder(path: Path) -> bool:
    """Returns whether a path is a folder, and not a link to one."""
    return path.is_dir() and not path.is_symlink()


def remove_working_folder(working: Path) -> None:
    """Removes what packings made in a folder, and the folder unless it holds anything else.

    What is left is kept as ``.packing``, with a warning.

    Args:
        working: the folder under its new name ``.packed``; left alone if no packing made it.
    """
    folders = _plan_folders(working)
    if not any(map(_is_own, folders)) and not _holds_nothing(working):
        return
    if is_file(working / LOCK_NAME):
        _unlink(working / LOCK_NAME)
    for folder in folders:
        if _is_own(folder):
            if is_folder(folder / IMAGES_NAME):
                _clear(folder / IMAGES_NAME, _OWN_IMAGES)
            _remove_files(folder, _OWN_RESULTS)
        _clear(folder, _OWN_PLAN)  # the plan last, which proves that the rest is ours
    with suppress(OSError):
        working.rmdir()
    if is_folder(working) and not list_plans(working):
        with suppress(OSError):  # another process does the same
            kept = working.with_name(PACKING_NAME)
            kept = set_aside(working) if os.path.lexists(kept) else working.rename(kept)
            logger.warning("%s holds files that no packing made; they are kept", kept)


def _plan_folders(working: Path) -> list[Path]:
    if not is_folder(working):
        return []
    return [p for p in working.iterdir() if _PLAN_FOLDER.fullmatch(p.name) and is_folder(p)]


def _is_own(folder: Path) -> bool:
    plan = folder / PLAN_NAME
    with suppress(OSError):
        return is_file(plan) and name_plan(read_bounded(plan, _MAX_PLAN_BYTES)) == folder.name
    return False


def _holds_nothing(working: Path) -> bool:
    """Whether a removal was stopped when only empty folders were left."""
    return is_folder(working) and all(
        _PLAN_FOLDER.fullmatch(path.name) and is_folder(path) and not any(path.iterdir())
        for path in _entries(working)
    )


def _clear(folder: Path, names: re.Pattern[str]) -> None:
    _remove_files(folder, names)
    with suppress(OSError):  # it holds something else
        folder.rmdir()


def _remove_files(folder: Path, names: re.Pattern[str]) -> None:
    for path in _entries(folder):
        if names.fullmatch(path.name) and is_file(path):
            _unlink(path)


def _entries(folder: Path) -> Iterator[Path]:
    with suppress(OSError):  # another process has removed it
        yield from list(folder.iterdir())


def _unlink(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
