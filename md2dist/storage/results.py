"""Result files: their path is checked before the computation, and they are written atomically."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from md2dist.errors import ImageError
from md2dist.storage.addresses import public_address
from md2dist.storage.atomic import atomic_open


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


def prepare_file(path: Path) -> None:
    """Checks the path of a result file before the computation, and creates its folder.

    Raises:
        ImageError: if it is a URL or a folder, or its folder cannot be created.
    """
    refuse_address(path)
    if path.is_dir():
        raise ImageError(f"{path} is a folder; expected the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror or error}") from None


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
