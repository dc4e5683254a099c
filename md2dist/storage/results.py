"""Result files: checked before the computation, written atomically, replacing only such files."""

import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from md2dist.errors import ImageError
from md2dist.storage.addresses import public_address
from md2dist.storage.atomic import atomic_open
from md2dist.storage.bounded import open_regular, read_bounded
from md2dist.storage.locks import try_lock

logger = logging.getLogger(__name__)

_MAX_FIGURES = 1 << 24  # bytes
_FILE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".npy", ".npz", ".ply", ".json", ".csv", ".md", ".txt"),
    *(".bmp", ".tif", ".tiff", ".webp", ".html", ".htm", ".jsonl", ".yaml", ".yml", ".pdf"),
    *(".pth", ".pt", ".onnx", ".safetensors", ".tar", ".gz", ".zip"),
)
_ZIP_END = b"PK\5\6"  # begins the last record of an archive, 20 bytes and the mark
_ZIP_MARK = b"\7\0md2dist"  # size of the archive's comment, and the comment


def write_json(path: Path, content: Mapping[str, object] | Sequence[object]) -> None:
    """Writes results as indented JSON.

    Raises:
        ImageError: as `write_result`, or if a number is not finite, which JSON cannot hold.
    """
    try:
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    except ValueError:
        raise ImageError(f"{path} is not written: a figure is not finite: {content}") from None
    write_result(path, lambda file: file.write(text.encode()))


def refuse_address(path: Path) -> None:
    """Checks that the path of results is not a URL.

    Raises:
        ImageError: if it is one.
    """
    if re.match(r"[\w+.-]+:/", str(path)):  # a path keeps one slash of the two
        address = public_address(str(path).replace(":/", "://", 1))
        raise ImageError(
            f"{address} is an address; expected a local path, from which results can be copied"
        )


def holds_figures(path: Path, key: str) -> bool:
    """Returns whether a file is JSON of md2dist: an object, or a list of them, with a key."""
    try:
        content = json.loads(read_bounded(path, _MAX_FIGURES))
    except (OSError, ValueError, RecursionError):
        return False
    rows = content if isinstance(content, list) else [content]
    return bool(rows) and all(isinstance(row, dict) and key in row for row in rows)


def mark_zip(file: BinaryIO) -> None:
    """Marks the zip archive, without a comment, that has been written to an open file."""
    file.seek(-2, os.SEEK_END)
    file.write(_ZIP_MARK)


def is_marked_zip(path: Path) -> bool:
    """Returns whether a file ends as a zip archive that `mark_zip` marked."""
    try:
        with open_regular(path) as file:
            file.seek(-20 - len(_ZIP_MARK), os.SEEK_END)
            end = file.read()
    except OSError:
        return False
    return end.startswith(_ZIP_END) and end.endswith(_ZIP_MARK)


def refuse_file_name(path: Path) -> None:
    """Checks that the path of a folder of results is not a URL, and is not named as a file.

    Raises:
        ImageError: if it is; an existing folder may have any name.
    """
    refuse_address(path)
    if path.suffix.lower() in _FILE_SUFFIXES and not path.is_dir():
        raise ImageError(f"{path} is named as a file; expected a folder for the results")


def prepare_file(
    path: Path,
    is_ours: Callable[[Path], bool] = lambda path: True,
    suffixes: Sequence[str] = (),
) -> None:
    """Checks the path of a result file before the computation, and creates its folder.

    Args:
        path: the file.
        is_ours: returns whether an existing file is a result of md2dist, which is replaced.
        suffixes: those of the file's formats, in lower case; () allows any name.

    Raises:
        ImageError: if it is a URL, a folder, a device or a file of another origin, has another
            suffix, or its folder cannot be created.
    """
    refuse_address(path)
    if path.is_dir():
        raise ImageError(f"{path} is a folder; expected the name of a file")
    if suffixes and path.suffix.lower() not in suffixes:
        raise ImageError(f"{path}: expected a name that ends in {' or '.join(suffixes)}")
    if path.exists() and not path.is_file():
        raise ImageError(f"{path} is not a regular file; expected the name of a file")
    if path.exists() and not is_ours(path):
        raise ImageError(
            f"{path} exists, and is not such a result of md2dist; name another file, or pass "
            "--overwrite"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror or error}") from None


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Creates a folder of results, and keeps other commands that lock it out of it.

    Raises:
        ImageError: if another process has locked it, or it cannot be created.
    """
    refuse_address(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ImageError(f"{folder} cannot be written: {error.strerror or error}") from None
    try:
        try:
            is_locked = try_lock(descriptor)
        except OSError as error:  # e.g. on NFS
            logger.warning(
                "%s cannot be locked against other processes: %s", folder, error.strerror
            )
            is_locked = True
        if not is_locked:
            raise ImageError(
                f"another process is writing to {folder}; wait until it ends, or name another "
                "--output"
            )
        yield
    finally:
        os.close(descriptor)


def write_result(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a result file atomically, and creates its folder.

    Raises:
        ImageError: as `prepare_file`, or if the file cannot be written.
    """
    prepare_file(path)
    try:
        with atomic_open(path) as file:
            write(file)
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror or error}") from None
