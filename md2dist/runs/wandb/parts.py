"""Parts of a W&B run: the files that W&B wrote for each start of a training."""

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from md2dist.storage.bounded import open_regular

STEP = "step"  # the metric that all others are drawn over
_NAME = re.compile(r"(offline-)?run-(\d{8}_\d{6})-(.+)")
_HEADER_BYTES, _BLOCK_BYTES = 7, 32768  # of a LevelDB log; W&B's own header has 7 bytes, too
_WHOLE, _LAST = 1, 4  # types of a chunk
_MOST_BYTES = 1 << 24  # of a record that is read


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
    found = [
        (match, path) for path in folder.glob("*run-*") if (match := _NAME.fullmatch(path.name))
    ]
    parts = [Part(path, match[3], bool(match[1])) for match, path in sorted(found, key=_start_time)]
    return [part for part in parts if part.path.is_file()]


def _start_time(found: tuple[re.Match[str], Path]) -> str:
    return found[0][2]


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
    settings.pop("_wandb", None)
    return Contents(last_step, last_names, settings, is_closed)


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
