"""SHA-256 of files, read in blocks."""

import hashlib
from io import BufferedIOBase
from pathlib import Path


def hash_file(path: Path) -> str:
    """Returns the sha256 of a file, as 64 hexadecimal digits.

    Raises:
        OSError: if the file cannot be read.
    """
    with path.open("rb") as stream:
        return hash_stream(stream)


def hash_stream(stream: BufferedIOBase) -> str:
    """Returns the sha256 of what is left to read from an open file."""
    return hashlib.file_digest(stream, "sha256").hexdigest()
