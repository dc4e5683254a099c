"""Members of a tar and the faults of its structure."""

import tarfile
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

_BLOCK = tarfile.BLOCKSIZE  # bytes; headers and contents start at multiples of it


class TarMember(NamedTuple):
    """One file in a tar; its bytes are ``[start, stop)``, after its header."""

    key: str  # of the sample: the name up to the first dot
    name: str  # the rest of the name, e.g. "0.png"
    header: int
    start: int
    stop: int

    @property
    def next_header(self) -> int:
        """Byte after the member's padding."""
        return -(-self.stop // _BLOCK) * _BLOCK


class TarFault(NamedTuple):
    """A fault of the structure."""

    position: int  # byte at which it was found
    reason: str


class TarWalk(NamedTuple):
    """Members and faults of a tar."""

    members: list[TarMember]
    faults: list[TarFault]
    end: int  # byte after the last member, where the closing zeros start


def walk_tar(content: memoryview, landmarks: Sequence[int] = ()) -> TarWalk:
    """Reads a tar from header to header.

    Args:
        content: the whole file.
        landmarks: ascending bytes at which headers are expected. After a damaged header, reading
            continues at the next of them; without one it ends there.

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
        ValueError: if there is none, or it does not describe a complete regular file.
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
        raise ValueError(f"{info.name} is truncated: the tar ends within it")
    return TarMember(key, name, position, start, start + info.size)
