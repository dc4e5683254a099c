"""Parsing of the tar members of one sample."""

from collections.abc import Iterator
from typing import Any, Protocol

from md2dist.errors import ShardError

_BLOCK = 512  # bytes; tar headers and payloads start at multiples of it


class SampleBytes(Protocol):
    """A sample's section of a tar: bytes, or an object that reads them when sliced."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes | memoryview: ...


def sample_members(section: bytes | memoryview) -> dict[str, Any]:
    """Splits a sample's tar section into its members without copying them.

    Args:
        section: the bytes ``[offsets[i], offsets[i + 1])`` of a shard.

    Returns:
        A memoryview per member, by the part of its name after the key (``"0.png"``, ``"json"``),
        and the key itself as ``"__key__"``.

    Raises:
        ShardError: if the section is not exactly one complete sample.

    Source: POSIX.1-1988, ustar: name in bytes 0..99, octal size in bytes 124..135.
    """
    view = memoryview(section)
    members: dict[str, Any] = {}
    for key, name, start, stop in _walk_sample(view):
        members["__key__"] = key
        members[name] = view[start:stop]
    return members


def find_member(section: SampleBytes, name: str) -> bytes:
    """Finds one member of a sample; reads only that member and the headers before it.

    Raises:
        ShardError: if the sample has no such member.
    """
    for _, found, start, stop in _walk_sample(section):
        if found == name:
            return bytes(section[start:stop])
    raise ShardError(f"the sample has no member {name}")


def _walk_sample(section: SampleBytes) -> Iterator[tuple[str, str, int, int]]:
    """Yields key, name, first byte and end (exclusive) of each member."""
    sample_key, position = None, 0
    while position < len(section):
        header = bytes(section[position : position + _BLOCK])
        key, _, name = _text(header[:100]).decode("ascii", "replace").partition(".")
        start = position + _BLOCK
        try:
            stop = start + int(_text(header[124:136]), 8)
        except ValueError:
            stop = -1
        if not name or not start <= stop <= len(section) or key != (sample_key or key):
            raise ShardError(f"no valid tar member at byte {position} of the sample")
        yield key, name, start, stop
        sample_key = key
        position = start + -(-(stop - start) // _BLOCK) * _BLOCK


def _text(field: bytes) -> bytes:
    """Returns a field up to its first zero byte, which ends it."""
    return field.partition(b"\0")[0]
