"""Files that are whole or absent, at whatever moment their writer is stopped."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_open(path: Path) -> Iterator[BinaryIO]:
    """Opens a new file that gets its name, or replaces an old one, when it is whole and on disk.

    Any number of processes on any number of machines may write the same path at the same time:
    the last one wins, and nobody reads a mixture.

    Args:
        path: the file's name in the end.

    Raises:
        OSError: if it cannot be written; then nothing is left of it.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with aside.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def atomic_write(path: Path, content: bytes) -> None:
    """Writes a file at once or not at all.

    Raises:
        OSError: if it cannot be written; an old file of that name stays.
    """
    with atomic_open(path) as stream:
        stream.write(content)


def is_same_file(descriptor: int, path: Path) -> bool:
    """Whether an open file still has a name; another may have taken it, or removed the file."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False
