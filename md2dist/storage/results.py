"""Files of results, written whole to a place that is checked before the work begins."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from md2dist.errors import ImageError
from md2dist.storage.atomic import atomic_open


def write_json(path: Path, content: Mapping[str, object] | Sequence[object]) -> None:
    """Writes figures as JSON for people and programs."""
    text = json.dumps(content, indent=2) + "\n"
    write_result(path, lambda file: file.write(text.encode()))


def refuse_address(path: Path) -> None:
    """Refuses an address as the place of results.

    Raises:
        ImageError: if it is one.
    """
    if re.match(r"[\w+.-]+:/", str(path)):  # a path keeps one slash of the two
        address = str(path).replace(":/", "://", 1)
        raise ImageError(
            f"{address} is an address; expected a place on this machine, to be copied from there"
        )


def prepare_file(path: Path) -> None:
    """Refuses a file that cannot be written, before the work that it shall tell; makes its folder.

    Raises:
        ImageError: if it is an address, or a folder's name, or its folder cannot be made.
    """
    refuse_address(path)
    if path.is_dir():
        raise ImageError(f"{path} is a folder; expected the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror or error}") from None


def write_result(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Lets `write` fill a file that takes its name only when it is complete; makes its folder.

    Raises:
        ImageError: as `prepare_file`, or if the folder cannot be written to.
    """
    prepare_file(path)
    try:
        with atomic_open(path) as file:
            write(file)
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror or error}") from None
