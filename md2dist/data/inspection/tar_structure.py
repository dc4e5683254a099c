"""Members of a tar and faults of its structure, found by walking from header to header."""

import tarfile
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

_BLOCK = tarfile.BLOCKSIZE  # bytes; headers and contents start at multiples of it


class TarMember(NamedTuple):
    """One file in a tar, with contents in the bytes ``[start, stop)``."""

    key: str  # key of the sample: the file name up to the first dot
    name: str  # rest of the file name, e.g. "0.png"
    header: int  # first byte of the header
    start: int
    stop: int

    @property
    def next_header(self) -> int:
        """First byte after the member's padding."""
        return -(-self.stop // _BLOCK) * _BLOCK


class TarFault(NamedTuple):
    """A fault of the tar's structure."""

    position: int  # byte where it was found
    reason: str


class TarWalk(NamedTuple):
    """Members and faults found in a tar."""

    members: list[TarMember]
    faults: list[TarFault]
    end: int  # first byte after the last member, where the closing zeros start


def walk_tar(content: memoryview, landmarks: Sequence[int] = ()) -> TarWalk:
    """Walks through a tar from header to header.

    Args:
        content: the whole file.
        landmarks: expected positions of headers, in ascending order. After a broken header the
            walk resumes at the next landmark, or ends if there is none.

    Source: POSIX.1-1988, ustar.
    """
    members: list[TarMember] = []
    faults: list[TarFault] = []
    position = end = 0
    while position < len(content) and any(content[position : position + _BLOCK]):
        try:
            member = _read_header(content, position)
        except ValueError as error:
            faults.append(TarFault(position, str(error)))
            following = bisect_right(landmarks, position)
            position = landmarks[following] if following < len(landmarks) else len(content)
            continue
        position = end = member.next_header
        members.append(member)
        if any(content[member.stop : end]):
            faults.append(TarFault(member.stop, "the padding after a member is not zero"))
    closing = bytes(content[position:])
    if closing.strip(b"\0"):
        zeros = len(closing) - len(closing.lstrip(b"\0"))
        faults.append(TarFault(position + zeros, "there is data after the end of the tar"))
    elif len(closing) < 2 * _BLOCK and not faults:
        faults.append(TarFault(position, "the tar does not end with two blocks of zeros"))
    return TarWalk(members, faults, end)


def _read_header(content: memoryview, position: int) -> TarMember:
    """Parses one header.

    Raises:
        ValueError: if it is invalid, or does not belong to a complete regular file.
    """
    try:
        block = bytes(content[position : position + _BLOCK])
        info = tarfile.TarInfo.frombuf(block, "ascii", "surrogateescape")
    except tarfile.HeaderError as error:
        raise ValueError(f"no valid tar header ({error})") from None
    key, _, name = info.name.partition(".")
    start = position + _BLOCK
    if not info.isreg() or not key or not name:
        raise ValueError(f"{info.name!r} is not a regular file named KEY.MEMBER")
    if start + info.size > len(content):
        raise ValueError(f"{info.name} is truncated: it extends past the end of the file")
    return TarMember(key, name, position, start, start + info.size)
