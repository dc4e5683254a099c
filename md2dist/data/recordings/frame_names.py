"""Names of frames: natural order, frame numbers, and gaps in the numbering."""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from posixpath import splitext
from statistics import median_low

from md2dist.errors import KittiDataError

_GAP = 1.5  # usual steps: timestamps jitter, missing frames double a step
_EPOCH_DIGITS = 9  # of timestamps, in seconds since 1970 (with a fraction) or shorter units
_LAST_NUMBER = re.compile(rf"(.*?)((?:\d{{{_EPOCH_DIGITS},}}\.)?\d{{1,30}})(\D*)", re.ASCII)
_NUM_DIGITS = 10  # of the largest frame number


def natural_key(name: str) -> list[tuple[int, str]]:
    """Returns a sort key that orders numbers by their values.

    >>> sorted(["frame10.png", "frame2.png"], key=natural_key)
    ['frame2.png', 'frame10.png']
    """
    parts = re.split(r"([0-9]+)", name.casefold())
    return [(int(part[:300]), part) if i % 2 else (0, part) for i, part in enumerate(parts)]


def number_frames(names: Iterable[str], folder: str) -> dict[int, str]:
    """Numbers the frames of a camera in natural order.

    Frames that are numbered consecutively keep their numbers, others are numbered from 0.

    Args:
        names: file names.
        folder: their folder, for messages.

    Raises:
        KittiDataError: if frames are missing in between, two have the same number, or some are
            named unlike the others.
    """
    ordered = sorted(names, key=lambda name: (natural_key(splitext(name)[0]), name))
    _check_likeness(ordered, folder)
    stems = [_LAST_NUMBER.fullmatch(splitext(name)[0]) for name in ordered]
    matches = [match for match in stems if match]
    if len(matches) == len(ordered) and len({(m[1], m[3]) for m in matches}) == 1:
        numbers = [float(m[2]) if "." in m[2] else int(m[2]) for m in matches]
        steps = _check_steps(numbers, ordered, folder)
        if set(steps) <= {1} and numbers[-1] < 10**_NUM_DIGITS:
            return dict(zip(map(int, numbers), ordered, strict=True))
    return dict(enumerate(ordered))


def _check_likeness(names: Sequence[str], folder: str) -> None:
    """Refuses a picture that is no frame, e.g. a cover among numbered frames."""
    forms = [re.sub(r"[0-9]+", "#", splitext(name)[0]) for name in names]
    first = next((i for i, form in enumerate(forms) if form != forms[0]), None)
    if first is not None and "#" in "".join(forms):
        raise KittiDataError(
            f"{folder} holds {names[0]} and {names[first]}, which are not named alike; keep only "
            "the frames of one video in it, or rename them to frame0.png, frame1.png, ..."
        )


def _check_steps(numbers: Sequence[float], names: Sequence[str], folder: str) -> Sequence[float]:
    """Returns the steps between frames, after checking that none is missing."""
    steps = [after - before for before, after in pairwise(numbers)]
    is_counter = numbers[-1] < 10**_EPOCH_DIGITS and isinstance(numbers[-1], int)
    usual = min(steps, default=0) if is_counter else median_low(steps or [0])
    for step, (before, after) in zip(steps, pairwise(names), strict=True):
        if step <= 0:
            raise KittiDataError(
                f"{folder} holds {before} and {after}, which have the same number; remove one"
            )
        if step > _GAP * usual:
            raise KittiDataError(
                f"{folder}: frames are missing between {before} and {after}; split the folder "
                "there into two, or rename the frames if none is missing"
            )
    return steps
