"""Split files: the lists of samples that the field trains and tests on."""

import re
from pathlib import Path
from typing import NamedTuple, cast

from md2dist.data.kitti.layout import Side
from md2dist.errors import SplitError

EXPECTED_LINE = (
    "DATE/DRIVE FRAME SIDE of KITTI raw, e.g. 2011_09_26/2011_09_26_drive_0005_sync 65 l, "
    "or SEQUENCE FRAME SIDE of KITTI odometry, e.g. 9 65 l"
)
_LINE = re.compile(r"([\w-]+/[\w-]+|\d{1,2})\s+(\d+)\s+([lr])", re.ASCII)
_LONGEST_KEY = 86  # characters: 100 fit into a tar's header, and the longest end is .annotated.npz


class SplitLine(NamedTuple):
    """One sample: a frame of a drive, seen by one of the two colour cameras."""

    drive: str  # date and drive, e.g. 2011_09_26/2011_09_26_drive_0005_sync, or a sequence: 09
    frame: int
    side: Side  # l is camera 2, r is camera 3

    @property
    def key(self) -> str:
        """Name of the sample in a shard; without dots, which end a key in WebDataset."""
        return f"{self.drive.rpartition('/')[2]}_{self.side}_{self.frame:010d}"

    def __str__(self) -> str:
        return f"{self.drive} {self.frame} {self.side}"


class SkippedLine(NamedTuple):
    """A line of the split that could not be packed, or a drive that its rule could not judge."""

    line: str
    reason: str


def read_split(path: str | Path) -> list[SplitLine]:
    """Reads a split file; frame numbers may be padded with zeros, blank lines are ignored.

    Raises:
        SplitError: if the file cannot be read or is empty, a line does not parse, a name is too
            long for a shard, or two samples have one name.
    """
    try:
        texts = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SplitError(f"split file {path} cannot be read: {error}") from None
    first_seen: dict[str, tuple[int, SplitLine]] = {}
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            continue
        match = _LINE.fullmatch(text.strip())
        if match is None:
            raise SplitError(f"{path}, line {number}: {text!r}; expected {EXPECTED_LINE}")
        drive, frame, side = match.groups()
        line = SplitLine(drive.rjust(2, "0"), int(frame), cast(Side, side))
        if len(line.key) > _LONGEST_KEY:
            raise SplitError(
                f"{path}, line {number}: {text!r} makes a sample's name of {len(line.key)} "
                f"characters; expected at most {_LONGEST_KEY}, which shards have room for; give "
                "the drive a shorter name, in its folder too"
            )
        first_number, first = first_seen.setdefault(line.key, (number, line))
        if first_number != number:
            fault = "repeats" if first == line else "has a drive of the same name as"
            remedy = "remove one" if first == line else "rename one of the two drives"
            raise SplitError(
                f"{path}, line {number}: {text!r} {fault} line {first_number}; {remedy}"
            )
    if not first_seen:
        raise SplitError(f"split file {path} is empty; expected lines {EXPECTED_LINE}")
    return [line for _, line in first_seen.values()]
