"""Text files of users, as editors and shells of any system write them."""

from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from pathlib import Path

from md2dist.errors import Md2distError


def read_text(path: Path, name: str, error: type[Md2distError], max_bytes: int) -> str:
    """Reads a text file, see `decode_text`.

    Args:
        path: the file.
        name: name of the file, for messages.
        error: class of the errors.
        max_bytes: largest size that is expected.

    Raises:
        OSError: if it cannot be read.
        Md2distError: an `error`, if it is no text, or too large.
    """
    with path.open("rb") as stream:
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
        Md2distError: an `error`, if it is no text.
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
