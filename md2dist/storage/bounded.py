"""Reading of local files that may be anything: regular files only, up to a bound, any encoding."""

import errno
import os
import stat
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from pathlib import Path
from typing import BinaryIO

from md2dist.errors import Md2distError


def open_regular(path: Path) -> BinaryIO:
    """Opens a file for reading.

    Raises:
        OSError: if it cannot be read, or is a device or a pipe: such a file may never end, or wait
            for a writer without end.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """Reads a whole file.

    Raises:
        OSError: as `open_regular`, or if the file is larger than `max_bytes`.
    """
    with open_regular(path) as stream:
        content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {max_bytes} bytes", str(path))
    return content


def read_text(path: Path, name: str, error: type[Md2distError], max_bytes: int) -> str:
    """Reads a text file, see `decode_text`.

    Args:
        path: the file.
        name: name of the file, for messages.
        error: class of the errors.
        max_bytes: largest size that is expected.

    Raises:
        OSError: if it cannot be read, or is not a regular file.
        Md2distError: an `error`, if it is not text, or too large.
    """
    with open_regular(path) as stream:
        content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise error(f"{name} has more than {max_bytes} bytes; expected a text file")
    return decode_text(content, name, error)


def decode_text(content: bytes, name: str, error: type[Md2distError]) -> str:
    """Decodes text in UTF-8, or in UTF-16 if it begins with a byte order mark.

    Args:
        content: contents of the file.
        name: name of the file, for messages.
        error: class of the errors.

    Returns:
        The text without a byte order mark.

    Raises:
        Md2distError: an `error`, if it is not text.
    """
    is_utf16 = content.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
    try:
        text = content.decode("utf-16") if is_utf16 else content.removeprefix(BOM_UTF8).decode()
    except UnicodeDecodeError as fault:
        raise error(
            f"{name} is not text in UTF-8 ({fault.reason} at byte {fault.start}); save it as UTF-8"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise error(f"{name} has a zero byte in line {line}; expected a text file")
    return text
