"""Split files: lists of the samples to train or test on."""

import re
from pathlib import Path
from typing import NamedTuple, cast

from md2dist.data.kitti.layout import Side
from md2dist.errors import SplitError
from md2dist.storage.bounded import read_text

EXPECTED_LINE = (
    "DATE/DRIVE FRAME SIDE of KITTI raw, e.g. 2011_09_26/2011_09_26_drive_0005_sync 65 l, "
    "or SEQUENCE FRAME SIDE of KITTI odometry or own videos, e.g. 9 65 l"
)
_LINE = re.compile(
    r"([\w-]+/[\w-]+|\d{1,2}|(?=\d*[a-zA-Z_-])[\w-]+)\s+(\d{1,10})\s+([lr])", re.ASCII
)
_DATELESS = re.compile(r"\d{4}_\d\d_\d\d_drive_\d+(_sync|_extract)?", re.ASCII)
_MAX_BYTES = 64 << 20  # of a split file; the longest published one has 5 MB
_LONGEST_SHOWN = 200  # characters of a line in a message
_LONGEST_KEY = 86  # characters: a tar header holds 100, and the longest suffix is .annotated.npz


class SplitLine(NamedTuple):
    """One sample: a frame of a drive, taken by one of the two colour cameras."""

    drive: str  # DATE/DRIVE, e.g. 2011_09_26/2011_09_26_drive_0005_sync, or a sequence, e.g. 09
    frame: int
    side: Side  # l is camera 2, r is camera 3

    @property
    def key(self) -> str:
        """Name of the sample in a shard, without dots: WebDataset ends a key at the first dot."""
        return f"{self.drive.rpartition('/')[2]}_{self.side}_{self.frame:010d}"

    def __str__(self) -> str:
        return f"{self.drive} {self.frame} {self.side}"


class SkippedLine(NamedTuple):
    """A line of the split that could not be packed, or a drive without readable speeds."""

    drive: str
    frame: int | None  # None: the whole drive
    side: Side | None
    reason: str

    def __str__(self) -> str:
        return self.drive if self.frame is None else f"{self.drive} {self.frame} {self.side}"


def read_split(path: str | Path) -> list[SplitLine]:
    """Reads a split file; frame numbers may be zero-padded, blank lines are ignored.

    Raises:
        SplitError: if the file cannot be read or is empty, a line does not parse, a sample name
            is too long for a shard, or two samples have the same name.
    """
    try:
        texts = read_text(Path(path), f"split file {path}", SplitError, _MAX_BYTES).splitlines()
    except OSError as error:
        raise SplitError(f"split file {path} cannot be read: {error.strerror}") from None
    first_seen: dict[str, tuple[int, SplitLine]] = {}
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            continue
        match = _LINE.fullmatch(text.strip())
        if match is None or _DATELESS.fullmatch(match[1]):
            shown = text[:_LONGEST_SHOWN] + "..." * (len(text) > _LONGEST_SHOWN)
            raise SplitError(f"{path}, line {number}: {shown!r}; expected {EXPECTED_LINE}")
        drive, frame, side = match.groups()
        line = SplitLine(drive.rjust(2, "0"), int(frame), cast(Side, side))
        if len(line.key) > _LONGEST_KEY:
            raise SplitError(
                f"{path}, line {number}: {text!r} yields a sample name of {len(line.key)} "
                f"characters; expected at most {_LONGEST_KEY}, the limit in a shard; rename the "
                "drive and its folder to a shorter name"
            )
        first_number, first = first_seen.setdefault(line.key, (number, line))
        if first_number != number:
            fault = "repeats" if first == line else "has a drive of the same name as"
            remedy = "remove one" if first == line else "rename one of the two drives"
            raise SplitError(
                f"{path}, line {number}: {text!r} {fault} line {first_number}; {remedy}"
            )
    if not first_seen:
        raise SplitError(f"split file {path} is empty; expected lines of the form {EXPECTED_LINE}")
    return [line for _, line in first_seen.values()]
