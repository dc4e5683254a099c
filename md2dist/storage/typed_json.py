"""Typed values from JSON of unknown origin, checked field by field against a dataclass.

Names, types and bounds are those of the dataclass. A number is an integer only if it is written as
one, unknown keys are ignored, as later versions add some, and depth and digits are bounded.
"""

import codecs
import json
import reprlib
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, FailFast, Field, TypeAdapter, ValidationError

from md2dist.errors import Md2distError
from md2dist.storage.bounded import read_bounded

MAX_BYTES = 1 << 20  # of a file, unless its reader allows more
_MAX_INT = 2**63 - 1  # larger numbers fit neither a file nor an array
_Kind = TypeVar("_Kind")
_Item = TypeVar("_Item")


def _check_file_name(name: str) -> str:
    is_plain = name not in ("", ".", "..") and "/" not in name and name.isprintable()
    if not is_plain or len(name.encode()) > 255:
        raise ValueError("expected a file name without a folder")
    return name


def make_printable(text: str) -> str:
    """Replaces control characters, and halves of characters, by question marks."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


Count = Annotated[int, Field(ge=0, le=_MAX_INT)]
Positive = Annotated[int, Field(ge=1, le=_MAX_INT)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]  # sha256
FileName = Annotated[str, AfterValidator(_check_file_name)]
Label = Annotated[str, AfterValidator(make_printable)]  # text for display, harmless to a terminal
Items = Annotated[list[_Item], FailFast()]  # rejected at the first wrong item, not after the last


def parse_json(content: bytes | str, kind: type[_Kind]) -> _Kind:
    """Parses JSON into a value of a type.

    Args:
        content: the text; a byte order mark is ignored.
        kind: a dataclass, a named tuple (stored as an array), or a list or dict of such.

    Raises:
        ValueError: in one line, naming the first field that is missing, of another type or out of
            bounds.
    """
    if isinstance(content, bytes):
        content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return _adapter(kind).validate_json(content, strict=True)
    except ValidationError as error:
        raise ValueError(_describe(error)) from None


def parse_record(kind: type[_Kind], values: object) -> _Kind:
    """Checks plain values as `parse_json` does.

    Raises:
        ValueError: as `parse_json`, or if JSON cannot hold the values.
    """
    try:
        text = json.dumps(values)
    except (TypeError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from None
    return parse_json(text, kind)


def read_json(
    path: Path,
    kind: type[_Kind],
    error_class: type[Md2distError],
    remedy: str,
    max_bytes: int = MAX_BYTES,
) -> _Kind:
    """Reads a JSON file into a value of a type.

    Args:
        path: the file.
        kind: as for `parse_json`.
        error_class: class of the error for a damaged file.
        remedy: what its user can do then.
        max_bytes: no larger file is read.

    Raises:
        Md2distError: of that class, naming the file and the first wrong field.
        OSError: if the file cannot be read, is not a regular file, or is too large.
    """
    try:
        return parse_json(read_bounded(path, max_bytes), kind)
    except ValueError as error:
        raise error_class(f"{path} is damaged: {error}; {remedy}") from None


@cache
def _adapter(kind: Any) -> TypeAdapter:
    return TypeAdapter(kind)


def _describe(error: ValidationError) -> str:
    """Describes the first fault in one line."""
    fault = error.errors(include_url=False)[0]
    field = make_printable(".".join(map(str, fault["loc"])))[:100] or "the content"
    reason = make_printable(fault["msg"]).removeprefix("Value error, ")
    reason = reason.replace("Input should be", "expected").replace("Invalid JSON", "it is not JSON")
    if fault["type"] == "missing":
        return f"{field} is missing"
    if fault["type"] == "json_invalid":
        return reason
    if isinstance(fault["input"], dict | list):
        return f"{field}: {reason}"
    return f"{field} is {reprlib.repr(fault['input'])}, {reason[:1].lower()}{reason[1:]}"
