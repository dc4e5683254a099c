"""Parts of a W&B run: the files that W&B wrote for each start of a training."""

import itertools
import json
import re
import shlex
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from md2dist.runs.wandb.names import ORIGIN, STEP
from md2dist.storage.bounded import open_regular

_NAME = re.compile(r"(offline-)?run-(\d{8}_\d{6})-")  # and the ID; "-1" if that is taken
_HEADER_BYTES, _BLOCK_BYTES = 7, 32768  # of a LevelDB log; W&B's own header has 7 bytes, too
_WHOLE, _LAST = 1, 4  # types of a chunk
_MOST_BYTES = 1 << 24  # of a record that is read
_CLOSING_TIMEOUT_S = 5.0
_MOST_LISTED_PARTS = 5


class Part(NamedTuple):
    """What one start of a training has logged to W&B."""

    folder: Path
    run_id: str
    is_offline: bool

    @property
    def path(self) -> Path:
        """The file of all records."""
        return self.folder / f"run-{self.run_id}.wandb"

    def is_uploaded(self) -> bool:
        """Returns whether `wandb sync` has uploaded it."""
        return self.path.with_suffix(".wandb.synced").exists()


class Contents(NamedTuple):
    """The records of a part that a later start needs."""

    last_step: int  # of the history; -1 if that is empty
    last_names: frozenset[str]  # metrics and pictures of that step
    settings: dict[str, Any]  # the configuration that was logged
    is_closed: bool  # whether the end of the run is in it


def find_parts(folder: Path) -> list[Part]:
    """Finds the parts of all runs in a folder `wandb`, oldest first."""
    parts = [
        Part(path.parent, path.stem.removeprefix("run-"), bool(match[1]))
        for path in folder.glob("*run-*/run-*.wandb")
        if (match := _NAME.match(path.parent.name)) and path.is_file()
    ]
    return sorted(parts, key=_start_order)


def _start_order(part: Part) -> tuple[str, int, str]:
    """Orders parts by the second of their start, and those of one second by their numbers."""
    name = part.folder.name.removeprefix("offline-")
    return name[: len("run-20260131_235959")], len(name), name


def read_part(part: Part) -> Contents:
    """Reads a part, up to where it is damaged or cut off.

    Raises:
        OSError: if its file cannot be read.
    """
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    last_step, last_names, settings, is_closed = -1, frozenset(), {}, False
    with open_regular(part.path) as stream:
        for content in _read_records(stream):
            try:
                record = Record.FromString(content)
                is_closed |= record.HasField("exit")
                row = {item.key or item.nested_key[0]: item for item in record.history.item}
                if STEP in row and (step := int(json.loads(row[STEP].value_json))) >= last_step:
                    last_names = frozenset(row) | (last_names if step == last_step else frozenset())
                    last_step = step
                for item in record.run.config.update:
                    settings[item.key] = json.loads(item.value_json)
            except (DecodeError, LookupError, ValueError, TypeError, OverflowError, RecursionError):
                break
    for name in ("_wandb", ORIGIN):
        settings.pop(name, None)
    return Contents(last_step, last_names, settings, is_closed)


def find_last_step(parts: list[Part], summary: Any) -> int | None:
    """Returns the last step that earlier starts have logged; None if there were none.

    Args:
        parts: of this run, on this machine.
        summary: the last values that the server has received, or None offline. What an online part
            had not sent when its machine failed is missing there.
    """
    # The last values are those of the part that was uploaded last.
    is_mixed = any(part.is_uploaded() for part in parts)
    is_kept = [summary is None or is_mixed or part.is_offline for part in parts]
    steps = [read_part(part).last_step for part in itertools.compress(parts, is_kept)]
    sent = None if summary is None else summary.get(STEP)
    if sent is not None:
        steps.append(int(sent))
    return max(steps, default=-1 if parts else None)


def wait_until_closed(part: Part) -> None:
    """Waits for a moment until W&B's process has written the end of a part.

    `finish` returns before.
    """
    deadline = time.monotonic() + _CLOSING_TIMEOUT_S
    while not read_part(part).is_closed and time.monotonic() < deadline:
        time.sleep(0.05)


def list_uploads(parts: list[Part]) -> str:
    """Returns the words of a shell for the offline parts of a run that are not uploaded yet."""
    parts = [part for part in parts if part.is_offline and not part.is_uploaded()]
    if len(parts) > _MOST_LISTED_PARTS:
        folder = shlex.quote(str(parts[0].folder.parent))
        return f"{folder}/offline-run-*/{parts[0].path.name}"
    return shlex.join(str(part.folder) for part in parts)


def _read_records(stream: BinaryIO) -> Iterator[bytes]:
    """Yields the records of a LevelDB log."""
    stream.seek(_HEADER_BYTES)
    position, record = _HEADER_BYTES, b""
    while True:
        room = _BLOCK_BYTES - position % _BLOCK_BYTES
        if room < _HEADER_BYTES:  # padding
            stream.seek(room, 1)
            position += room
        header = stream.read(_HEADER_BYTES)
        if len(header) < _HEADER_BYTES:
            return
        num_bytes, kind = struct.unpack_from("<HB", header, 4)
        chunk = stream.read(num_bytes)
        position += _HEADER_BYTES + num_bytes
        record += chunk
        if len(chunk) < num_bytes or len(record) > _MOST_BYTES:
            return
        if kind in (_WHOLE, _LAST):
            yield record
            record = b""
