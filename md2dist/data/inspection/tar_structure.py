"""The members of a tar, found by walking it, with everything that is wrong with its structure."""

import tarfile
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

_BLOCK = tarfile.BLOCKSIZE  # bytes; headers and contents start at multiples of it


class TarMember(NamedTuple):
    """One file in a tar; its bytes are ``[start, stop)``, its header lies before them."""

    key: str  # of the sample: the name up to the first dot
    name: str  # what follows it, e.g. "0.png"
    header: int
    start: int
    stop: int

    @property
    def next_header(self) -> int:
        """Byte behind the member's padding."""
        return -(-self.stop // _BLOCK) * _BLOCK


class TarFault(NamedTuple):
    """Something wrong with the structure."""

    position: int  # byte where it was found
    reason: str


class TarWalk(NamedTuple):
    """What a walk through a tar has found."""

    members: list[TarMember]
    faults: list[TarFault]
    end: int  # byte behind the last member, where the closing zeros start


def walk_tar(content: memoryview, landmarks: Sequence[int] = ()) -> TarWalk:
    """Walks through a tar from header to header.

    Args:
        content: the whole file.
        landmarks: ascending bytes where headers should lie. Behind a broken header the walk goes
            on at the next of them; without one it has to end there.

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
            faults.append(TarFault(member.stop, "the padding behind a member is not zero"))
    closing = bytes(content[position:])
    if closing.strip(b"\0"):
        zeros = len(closing) - len(closing.lstrip(b"\0"))
        faults.append(TarFault(position + zeros, "something follows the tar's end"))
    elif len(closing) < 2 * _BLOCK and not faults:
        faults.append(TarFault(position, "the tar does not end with two blocks of zeros"))
    return TarWalk(members, faults, end)


def _read_header(content: memoryview, position: int) -> TarMember:
    """Parses one header.

    Raises:
        ValueError: if there is none, or if it is not that of a whole plain file.
    """
    try:
        block = bytes(content[position : position + _BLOCK])
        info = tarfile.TarInfo.frombuf(block, "ascii", "surrogateescape")
    except tarfile.HeaderError as error:
        raise ValueError(f"no valid tar header ({error})") from None
    key, _, name = info.name.partition(".")
    start = position + _BLOCK
    if not info.isreg() or not key or not name:
        raise ValueError(f"{info.name!r} is no plain file named KEY.MEMBER")
    if start + info.size > len(content):
        raise ValueError(f"{info.name} is cut short: the file ends before it does")
    return TarMember(key, name, position, start, start + info.size)
