"""List of images: paths from a stream, one per line."""

import os
from pathlib import Path
from typing import BinaryIO

from md2dist.errors import ImageError
from md2dist.prediction.image_files import refuse_equal_names

_MAX_BYTES = 1 << 26  # of the list: about a million paths


def read_image_list(stream: BinaryIO) -> list[Path]:
    """Reads paths of images, in the list's order; empty lines are left out.

    Args:
        stream: paths in any encoding, one per line, with any line ends.

    Raises:
        ImageError: if there is no path, or more than 64 MiB of them, if the stream is no text, or
            if two images would have the same names of results.
    """
    content = stream.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ImageError(
            f"the list on standard input has more than {_MAX_BYTES:,} bytes; pass it in parts"
        )
    if b"\0" in content:
        line = content.count(b"\n", 0, content.index(b"\0")) + 1
        raise ImageError(
            f"the list on standard input has a zero byte in line {line}; expected paths of images, "
            "one per line"
        )
    lines = [line.removesuffix(b"\r") for line in content.split(b"\n")]
    images = [Path(os.fsdecode(line)) for line in lines if line]
    if not images:
        raise ImageError(
            "the list on standard input is empty; expected paths of images, one per line"
        )
    refuse_equal_names(images)
    return images
