"""metrics.jsonl: reading, and the repair at a resume."""

import json
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from md2dist.storage.atomic import atomic_open
from md2dist.storage.bounded import open_regular
from md2dist.storage.typed_json import Count, parse_json

logger = logging.getLogger(__name__)

_LONGEST_LINE = 1 << 16  # bytes
_MOST_STEPS = 10**12
_LARGEST = 1e300  # of a metric


@dataclass(frozen=True)
class _Line:
    """The part of a line that a resume needs."""

    step: Count


def drop_lines_after(path: Path, step: int) -> None:
    """Removes the lines that an interrupted run wrote after its last checkpoint.

    Damaged lines are moved to a file beside it, with a warning. A last line that is cut off, as a
    kill leaves it, is removed.

    Args:
        path: metrics.jsonl; it may not exist.
        step: of the checkpoint.

    Raises:
        OSError: if it cannot be read or replaced.
    """
    if not path.is_file():
        return
    damaged: list[bytes] = []
    reason = ""
    with open_regular(path) as old, atomic_open(path) as new:
        for line in iter(partial(old.readline, _LONGEST_LINE), b""):
            text = line.strip(b"\0\r\n ")  # a power cut leaves zeros
            try:
                if parse_json(text, _Line).step <= step:
                    new.write(text + b"\n")
            except ValueError as error:
                if text and (line.endswith(b"\n") or len(line) == _LONGEST_LINE):
                    damaged.append(line)
                    reason = reason or str(error)
    if damaged:
        aside = path.with_name(f"{path.name}.damaged")
        with aside.open("ab") as file:
            file.writelines(damaged)
        logger.warning(
            "%s: %d damaged lines (%s) are now in %s", path, len(damaged), reason, aside.name
        )


class MetricsLine(NamedTuple):
    """A line of metrics.jsonl."""

    step: int
    time: float  # s since 1970; NaN if there is none
    values: dict[str, float]  # null is NaN; what is not a number is left out


def read_lines(path: Path) -> Iterator[MetricsLine]:
    """Yields the lines of metrics.jsonl; damaged ones, and one that is being written, are left out.

    Raises:
        OSError: if it cannot be read.
    """
    if not path.is_file():
        return
    with open_regular(path) as file:
        for line in iter(partial(file.readline, _LONGEST_LINE), b""):
            try:
                values = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if not isinstance(values, dict):
                continue
            step, time = values.pop("step", None), values.pop("time", None)
            if isinstance(step, int) and 0 <= step < _MOST_STEPS:
                time = float(time) if isinstance(time, float) else math.nan
                numbers = {name: _to_float(value) for name, value in values.items()}
                yield MetricsLine(step, time, {k: v for k, v in numbers.items() if v is not None})


def _to_float(value: object) -> float | None:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < _LARGEST else math.nan


def read_metrics(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """Yields the steps and metrics of metrics.jsonl, see `read_lines`."""
    for line in read_lines(path):
        yield line.step, line.values
