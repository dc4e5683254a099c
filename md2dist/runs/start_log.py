"""starts.jsonl: each start of a run with its machine, versions, data, command and predecessor.

A start notes the status that it found. The file thus has a single writer, and a run that was
killed, whose status is still `running`, differs from one that was stopped.
"""

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Annotated

from pydantic import Field

from md2dist.runs.code_version import find_commit
from md2dist.runs.status_file import Status, logging_a_failed_write
from md2dist.storage.bounded import open_regular
from md2dist.storage.typed_json import Count, Label, Number, Positive, parse_json

logger = logging.getLogger(__name__)

STARTS_NAME = "starts.jsonl"
_LONGEST_LINE = 1 << 18  # bytes
_MOST_STARTS = 10_000
_LIBRARIES = ("md2dist", "torch", "deepspeed", "webdataset", "numpy", "pillow")
_Rows = Annotated[dict[Label, Label], Field(max_length=100)]


@dataclass(frozen=True)
class Start:
    """One start of a run."""

    time: Number  # s since 1970
    first_step: Count
    last_step: Count  # at which the run ends
    steps_per_epoch: Positive
    global_batch_size: Positive
    num_ranks: Positive
    node_size: Positive  # ranks on the node of the main rank
    host: Label = ""  # of the main rank
    devices: Label = ""
    folder: Label = ""  # in which the command was given
    command: list[Label] = field(default_factory=list)  # arguments, addresses in public form
    versions: _Rows = field(default_factory=dict)
    train_shards: _Rows = field(default_factory=dict)  # data-set card
    val_shards: _Rows = field(default_factory=dict)  # the same; empty without validation
    before: Status | None = None  # status.json as this start found it


def append_start(run_dir: Path, start: Start) -> None:
    """Appends a start; a failure is logged, and training continues."""
    path = run_dir / STARTS_NAME
    line = json.dumps(asdict(start)).encode()
    with logging_a_failed_write(path), path.open("ab") as file:
        file.write((b"\n" if _is_cut_off(path) else b"") + line + b"\n")


def read_starts(run_dir: Path) -> list[Start]:
    """Reads the starts of a run, oldest first; damaged lines are left out, with a warning.

    Raises:
        OSError: if the file cannot be read; a missing one has no starts.
    """
    starts, num_damaged = [], 0
    for line in _read_lines(run_dir / STARTS_NAME):
        try:
            starts.append(parse_json(line, Start))
        except ValueError:
            num_damaged += 1
        if len(starts) == _MOST_STARTS:
            break
    if num_damaged:
        logger.warning("%s: %d damaged lines are left out", run_dir / STARTS_NAME, num_damaged)
    return starts


def list_versions() -> dict[str, str]:
    """Returns the versions of Python and of a training's libraries, and the checkout's commit."""
    versions = {"python": python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # a checkout that is not installed
            continue
    if commit := find_commit():
        versions["commit"] = commit
    return versions


def _read_lines(path: Path) -> Iterator[bytes]:
    if not path.is_file():
        return
    with open_regular(path) as file:
        for line in iter(partial(file.readline, _LONGEST_LINE), b""):
            if text := line.strip(b"\0\r\n "):
                yield text


def _is_cut_off(path: Path) -> bool:
    """Whether the last line has no end, as a power cut leaves it."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"
