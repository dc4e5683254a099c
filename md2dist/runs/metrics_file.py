"""Repair of metrics.jsonl at a resume: lines after the checkpoint and damaged ones are removed."""

import json
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from md2dist.storage.atomic import atomic_open
from md2dist.storage.bounded import open_regular
from md2dist.storage.typed_json import Count, parse_json

logger = logging.getLogger(__name__)

_LONGEST_LINE = 1 << 16  # bytes


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


def read_metrics(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """Yields the steps and metrics of metrics.jsonl, after `drop_lines_after`.

    Null becomes NaN again; what is not a number is left out.

    Raises:
        OSError: if it cannot be read.
    """
    if not path.is_file():
        return
    with open_regular(path) as file:
        for line in iter(partial(file.readline, _LONGEST_LINE), b""):
            try:
                values = json.loads(line)
            except ValueError:  # an integer of thousands of digits
                continue
            step, _ = values.pop("step"), values.pop("time", None)
            numbers = {name: math.nan if value is None else value for name, value in values.items()}
            yield step, {k: v for k, v in numbers.items() if isinstance(v, int | float)}
