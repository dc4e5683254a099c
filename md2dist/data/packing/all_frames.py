"""The split `all`: every frame of every sequence that has all that is to be packed."""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from md2dist.data.kitti.layout import OTHER_SIDE, Side
from md2dist.data.kitti.splits import SkippedLine, SplitLine
from md2dist.data.packing.source import FrameSequence, FrameSource
from md2dist.data.shards.recipe import Recipe
from md2dist.errors import KittiDataError, SplitError

ALL = "all"
_NUM_NAMED = 10  # sequences that a message names


class AllFrames(NamedTuple):
    """The samples of the split, with counts for display."""

    lines: list[SplitLine]
    sequences: list[str]  # of which samples are taken
    num_incomplete: int  # frames of a camera that lack a neighbour, the other view or ground truth
    skipped: list[SkippedLine]  # sequences without a sample

    def __str__(self) -> str:
        return (
            f"{ALL}: {len(self.lines)} samples of {len(self.sequences)} sequences "
            f"({_name_some(self.sequences)}); left out: {self.num_incomplete} frames that lack a "
            "neighbour, the other camera or ground truth"
        )


def select_all(
    source: FrameSource,
    recipe: Recipe,
    *,
    only: Sequence[str] = (),
    hold_out: Sequence[str] = (),
    skip_bad: bool = False,
) -> AllFrames:
    """Lists every frame that has its neighbours, the other camera and ground truth, as requested.

    Args:
        source: where the frames come from.
        recipe: recipe of the shards, which says what a frame needs.
        only: sequences to take; empty: all of them.
        hold_out: sequences to leave out, for validation or tests.
        skip_bad: skip sequences without such a frame, instead of raising at the first.

    Returns:
        Frames of both cameras, in the order of the sequences, by frame and side.

    Raises:
        SplitError: if a sequence is unknown, or none is left.
        KittiDataError: if a sequence has no such frame.
    """
    present = source.list_sequences()
    for option, names in (("--only", only), ("--hold-out", hold_out)):
        for name in names:
            if name not in present:
                raise SplitError(
                    f"{option} {name}: no such sequence; expected one of {_name_some(present)}"
                )
    chosen = [name for name in dict.fromkeys(only or present) if name not in hold_out]
    if not chosen:
        raise SplitError(f"the split {ALL} has no sequences; {source.describe()}")
    lines: list[SplitLine] = []
    skipped: list[SkippedLine] = []
    num_incomplete = 0
    for name in chosen:
        sequence = source.open_sequence(name, recipe.ground_truth)
        try:
            found, num_frames = _select(sequence, name, recipe)
        except KittiDataError as error:
            if not skip_bad:
                raise KittiDataError(f"{name}: {error} (--skip-bad skips such sequences)") from None
            skipped.append(SkippedLine(name, None, None, str(error)))
            continue
        lines += found
        num_incomplete += num_frames - len(found)
    if not lines:
        raise KittiDataError(f"nothing to pack; first reason: {skipped[0].reason}")
    left_out = {line.drive for line in skipped}
    return AllFrames(lines, [n for n in chosen if n not in left_out], num_incomplete, skipped)


def _select(sequence: FrameSequence, name: str, recipe: Recipe) -> tuple[list[SplitLine], int]:
    """Returns the samples of a sequence, and the number of its frames."""
    frames: dict[Side, Collection[int]] = {side: sequence.list_frames(side) for side in OTHER_SIDE}
    has_ground_truth = recipe.ground_truth != "none"
    known: dict[Side, Collection[int]] = {
        side: sequence.list_ground_truth(side) if has_ground_truth else frames[side]
        for side in OTHER_SIDE
    }
    if recipe.use_stereo:
        sequence.check_stereo("l")
    lines = [
        line
        for line in _lines(name, frames)
        if line.frame in known[line.side]
        and all(line.frame + offset in frames[line.side] for offset in recipe.frame_offsets)
        and not (recipe.use_stereo and line.frame not in frames[OTHER_SIDE[line.side]])
    ]
    num_frames = sum(map(len, frames.values()))
    if not lines:
        raise KittiDataError(
            f"none of its {num_frames} images can be packed; expected frames with "
            + ", ".join(_list_needs(recipe, has_ground_truth))
        )
    return lines, num_frames


def _lines(name: str, frames: dict[Side, Collection[int]]) -> Iterator[SplitLine]:
    for frame in sorted({*frames["l"], *frames["r"]}):
        yield from (SplitLine(name, frame, side) for side in OTHER_SIDE if frame in frames[side])


def _list_needs(recipe: Recipe, has_ground_truth: bool) -> Iterator[str]:
    span = max(0, *recipe.frame_offsets, 0) - min(0, *recipe.frame_offsets, 0) + 1
    offsets = " ".join(f"{offset:+d}" for offset in recipe.frame_offsets)
    yield f"the neighbours {offsets} (>= {span} frames)" if offsets else "an image"
    if recipe.use_stereo:
        yield "the other camera"
    if has_ground_truth:
        yield f"ground truth ({recipe.ground_truth})"


def _name_some(names: Sequence[str]) -> str:
    more = len(names) - _NUM_NAMED
    return (", ".join(names[:_NUM_NAMED]) or "none") + f" and {more} more" * (more > 0)
