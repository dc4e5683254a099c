"""The camera's and the scanner's files behind packed samples, as they were when they were read."""

import hashlib
from pathlib import Path
from typing import NamedTuple


class SourceFile(NamedTuple):
    """What a file held."""

    sha256: str
    num_bytes: int


def describe_file(path: Path) -> SourceFile:
    """Reads a file and says what it holds.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return SourceFile(digest, file.tell())


def is_as_before(path: Path, source: SourceFile) -> bool:
    """Whether a file still has the size that it had; its contents are not read again."""
    try:
        return path.stat().st_size == source.num_bytes
    except OSError:
        return False
