"""Atomic file writes: a reader sees the old file or the new one, never a part of it.

The content is written under a hidden temporary name in the same folder, flushed to disk, and then
renamed. After a crash, the file is complete or absent.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_LONGEST_START = 200  # bytes of the final name that a temporary one begins with


@contextmanager
def atomic_open(path: Path) -> Iterator[BinaryIO]:
    """Opens a new file that gets its name once the block has written all of it.

    Any number of processes on any number of machines may write the same path at the same time: the
    last one wins, and no reader sees a mixture.

    Args:
        path: the final name; an existing file is replaced.

    Raises:
        OSError: if the file cannot be written; an existing one stays, and no temporary file is
            left.
    """
    partial = _partial_name(path)
    try:
        with partial.open("xb") as stream:
            yield stream
        publish(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def atomic_write(path: Path, content: bytes) -> None:
    """Writes a file completely or not at all.

    Raises:
        OSError: if the file cannot be written; an existing one stays.
    """
    with atomic_open(path) as stream:
        stream.write(content)


def atomic_symlink(path: Path, target: str) -> None:
    """Creates or replaces a symbolic link, so that it exists at every moment.

    Raises:
        OSError: if the link cannot be created; an existing one stays.
    """
    partial = _partial_name(path)
    partial.symlink_to(target)
    try:
        partial.replace(path)
    except OSError:
        partial.unlink()
        raise
    _flush(path.parent)


def publish(partial: Path, path: Path) -> None:
    """Renames a complete file, or a folder with all its files, after flushing it to disk.

    Args:
        partial: the temporary name, on the file system of `path`.
        path: the final name; an existing file or empty folder is replaced.

    Raises:
        OSError: if the disk fails, or `path` is a folder that is not empty.
    """
    for part in (*partial.rglob("*"), partial):
        _flush(part)
    partial.replace(path)
    _flush(path.parent)


def set_aside(path: Path) -> Path:
    """Renames a file, link or folder to the first free name of NAME.before-1, NAME.before-2, ...

    Returns:
        The new path.

    Raises:
        OSError: if it cannot be renamed.
    """
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}.before-{number}")):
        number += 1
    return path.rename(aside)


def _partial_name(path: Path) -> Path:
    """Returns a name of this writer's own, which is not too long where the final one is not."""
    start = os.fsdecode(os.fsencode(path.name)[:_LONGEST_START])
    return path.with_name(f".{start}.{uuid.uuid4().hex[:8]}")


def _flush(path: Path) -> None:
    """Flushes a file, or the entries of a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
