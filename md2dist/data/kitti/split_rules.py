"""Splits by rule: moving frames of whole drives, with separate drives for validation."""

import zlib
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from md2dist.data.kitti.calibration import read_speed
from md2dist.data.kitti.drives import EIGEN_TEST_DRIVES
from md2dist.data.kitti.layout import OTHER_SIDE, Side, list_drives, list_frames
from md2dist.data.kitti.roots import describe_roots
from md2dist.data.kitti.splits import SkippedLine, SplitLine
from md2dist.data.kitti.tree import SourceTree
from md2dist.errors import KittiDataError, SplitError

Part = Literal["train", "val"]
MIN_SPEED = 1.0  # m/s: 0.1 m between two frames


class RuleSplit(NamedTuple):
    """The samples of a part, with counts of the excluded frames by reason."""

    lines: list[SplitLine]
    num_drives: int
    num_static: int  # frames of a camera at less than MIN_SPEED
    num_incomplete: int  # moving frames of a camera without a neighbour or the stereo view
    skipped: list[SkippedLine]  # drives without speeds

    def __str__(self) -> str:
        return (
            f"{len(self.lines)} samples of {self.num_drives} drives; left out: {self.num_static} "
            f"frames slower than {MIN_SPEED:g} m/s, {self.num_incomplete} with a missing view"
            + f", {len(self.skipped)} drives without speeds"
            * bool(self.skipped)
        )


def is_held_out(drive: str) -> bool:
    """Returns whether a drive is held out for validation.

    The result depends on the drive's name alone, so it is the same on every machine, whichever
    drives are present. Six drives of KITTI raw are held out: 0015, 0022, 0051, 0079 of 2011_09_26,
    0001 of 2011_09_28 and 0004 of 2011_09_29, 9 % of the frames.

    Args:
        drive: name of the drive, with or without the folder of its date.
    """
    return zlib.crc32(drive.rpartition("/")[2].encode()) % 9 == 6


def select_samples(
    tree: SourceTree,
    part: Part,
    frame_offsets: Sequence[int],
    use_stereo: bool,
    *,
    skip_bad: bool = False,
) -> RuleSplit:
    """Lists the samples of all drives of a tree except the 28 of the Eigen test split.

    Args:
        tree: tree of KITTI raw.
        part: ``val`` for the drives that are held out, ``train`` for the others.
        frame_offsets: neighbours that a sample needs.
        use_stereo: whether a sample needs the other camera's image.
        skip_bad: skip drives with a missing or malformed navigation record.

    Returns:
        Frames of both cameras in which the car moves, sorted by drive, frame and side.

    Raises:
        SplitError: if there are none.
        KittiDataError: if the navigation record of a frame is missing or malformed.
    """
    drives = [
        drive
        for drive in list_drives(tree)
        if drive.rpartition("/")[2] not in EIGEN_TEST_DRIVES
        and is_held_out(drive) == (part == "val")
    ]
    lines: list[SplitLine] = []
    skipped: list[SkippedLine] = []
    num_static = num_incomplete = 0
    for drive in drives:
        frames: dict[Side, set[int]] = {side: list_frames(tree, drive, side) for side in OTHER_SIDE}
        try:
            is_moving = {
                frame: read_speed(tree, drive, frame) >= MIN_SPEED
                for frame in sorted(frames["l"] | frames["r"])
            }
        except KittiDataError as error:
            reason = f"its speed is unknown: {error}"
            if not skip_bad:
                raise KittiDataError(
                    f"{drive}: {reason}; skip such drives with --skip-bad"
                ) from None
            skipped.append(SkippedLine(drive, None, None, reason))
            continue
        for line in _lines(drive, frames):
            if not is_moving[line.frame]:
                num_static += 1
            elif not _is_complete(line, frames, frame_offsets, use_stereo):
                num_incomplete += 1
            else:
                lines.append(line)
    split = RuleSplit(lines, len(drives) - len(skipped), num_static, num_incomplete, skipped)
    if not lines:
        raise SplitError(
            f"rule/{part} selects no samples from {tree}: {split}; expected synced drives of KITTI "
            "raw, DATE/DATE_drive_NUMBER_sync, " + f"{_remedy(part)}; {describe_roots(tree)}"
        )
    return split


def _lines(drive: str, frames: dict[Side, set[int]]) -> Iterator[SplitLine]:
    for frame in sorted(frames["l"] | frames["r"]):
        yield from (SplitLine(drive, frame, side) for side in OTHER_SIDE if frame in frames[side])


def _is_complete(
    line: SplitLine, frames: dict[Side, set[int]], frame_offsets: Sequence[int], use_stereo: bool
) -> bool:
    neighbours = {line.frame + offset for offset in frame_offsets}
    has_stereo = line.frame in frames[OTHER_SIDE[line.side]]
    return neighbours <= frames[line.side] and (has_stereo or not use_stereo)


def _remedy(part: Part) -> str:
    if part == "val":
        return "including some held out for validation, e.g. 2011_09_26_drive_0015_sync"
    return "including some for training, e.g. 2011_09_26_drive_0001_sync"
