"""Working folder of a packing; shards move out once all are complete.

OUTPUT/.packing/lock                shared while packing, exclusive while merging
OUTPUT/.packing/PLAN/plan.json      the plan; PLAN is its digest
OUTPUT/.packing/PLAN/images/        stored images
OUTPUT/.packing/PLAN/000012.tar     a complete shard
OUTPUT/.packing/PLAN/000012.json    its record; without it, the shard is packed again
OUTPUT/.packing/PLAN/replaced.json  names in OUTPUT of the files that it replaces,
OUTPUT/.packing/PLAN/skipped.jsonl  the skipped samples, if there are any,
OUTPUT/.packing/PLAN/.packed.json   record of the finished packing, and
OUTPUT/.packing/PLAN/index.json     the manifest, while the shards move to their final names
OUTPUT/.packed                      new name of .packing once only its removal is left
"""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from md2dist.data.kitti.splits import SkippedLine
from md2dist.data.packing.finished import clear_packed, describe_finished
from md2dist.data.packing.made_files import list_present
from md2dist.data.packing.plan import Plan, describe_differences
from md2dist.data.packing.source_files import Fingerprint
from md2dist.data.packing.working_names import (
    IMAGES_NAME,
    LOCK_NAME,
    PACKED_NAME,
    PACKING_NAME,
    PLAN_NAME,
    list_plans,
    name_plan,
)
from md2dist.data.shards.entry import ShardEntry, StoredEntry
from md2dist.data.shards.manifest import MANIFEST_NAME
from md2dist.errors import ShardError
from md2dist.storage.atomic import atomic_write, set_aside
from md2dist.storage.locks import is_same_file, try_lock
from md2dist.storage.typed_json import Items, make_printable, read_json

logger = logging.getLogger(__name__)

_MAX_RECORD_BYTES = 1 << 28


@dataclass(frozen=True)
class _StoredRecord:
    """JSON form of a `ShardRecord`."""

    entry: StoredEntry
    skipped: Items[SkippedLine]
    sources: dict[str, Fingerprint]


class ShardRecord(NamedTuple):
    """Record of a packed shard."""

    entry: ShardEntry
    skipped: list[SkippedLine]
    sources: dict[str, Fingerprint]  # the files of its samples, by relative path


class PackingFolder:
    """Folder of one packing; any number of tasks can work in it at the same time.

    Args:
        output: the folder of the finished shards.
        plan: the whole packing.
        overwrite: whether to replace other shards and other unfinished packings.

    Attributes:
        path: the working folder; it exists.

    Raises:
        ShardError: if the output holds something that must not be replaced.
        OSError: if the folder cannot be created.
    """

    def __init__(self, output: Path, plan: Plan, *, overwrite: bool = False):
        content = json.dumps(plan.fingerprint(), sort_keys=True).encode()
        self.output = output
        self.path = output / PACKING_NAME / name_plan(content)
        clear_packed(output)  # left by a merge that was stopped before this step
        if not overwrite:
            if list_present(output) and not self.is_publishing:
                raise ShardError(
                    f"{output} already holds {describe_finished(plan, output)}; choose another "
                    "folder, or pass --overwrite"
                )
            for other in list_plans(self.path.parent):
                if other != self.path:
                    found = json.loads((other / PLAN_NAME).read_bytes())
                    differences = describe_differences(plan, found)
                    raise ShardError(
                        f"{output} holds an unfinished packing that differs in {differences}; "
                        "finish it with its own options, choose another folder, or pass "
                        "--overwrite to discard it"
                    )
        for folder in (self.path.parent, self.path, self.images):
            if folder.is_symlink():
                raise ShardError(f"{folder} is a link, expected a folder; remove the link")
        self.path.mkdir(parents=True, exist_ok=True)
        atomic_write(self.path / PLAN_NAME, content)

    @contextmanager
    def lock(self, *, alone: bool) -> Iterator[None]:
        """Locks the folder: shared for packing, exclusively for merging.

        On a file system without locks, it has no effect.

        Raises:
            ShardError: if another process merges, or, for an exclusive lock, packs.
        """
        path = self.path.parent / LOCK_NAME
        with open(path, "a+", opener=_open_no_link) as file:
            is_locked = try_lock(file, shared=not alone, required=False)
            if not is_locked or not is_same_file(file, path):  # another process has just merged
                raise ShardError(
                    f"another process is packing or merging the shards of {self.output}; wait "
                    "for it, then repeat the command if shards are still missing"
                )
            yield

    def finish(self) -> None:
        """Marks the packing as finished; only `clear_packed` is left to do."""
        for other in list_plans(self.path.parent):
            if other != self.path:
                (other / MANIFEST_NAME).unlink(missing_ok=True)  # left by an abandoned merge
        packed = self.output / PACKED_NAME
        if os.path.lexists(packed):
            logger.warning("%s: no packing made it; kept as %s", packed, set_aside(packed).name)
        self.path.parent.rename(packed)

    @property
    def is_publishing(self) -> bool:
        """Whether all shards are complete, and some may have moved already."""
        return (self.path / MANIFEST_NAME).is_file()

    @property
    def images(self) -> Path:
        """Folder of the stored images."""
        return self.path / IMAGES_NAME

    def shard_path(self, number: int) -> Path:
        """Returns the path of a shard, which need not exist."""
        return self.path / f"{number:06d}.tar"

    def read_record(self, number: int) -> ShardRecord | None:
        """Reads the record of a shard; None if it is not packed yet, or cut off, or damaged."""
        path = self.shard_path(number)
        record = path.with_suffix(".json")
        remedy = "the shard is packed again"
        try:
            stored = read_json(record, _StoredRecord, ShardError, remedy, _MAX_RECORD_BYTES)
        except FileNotFoundError:
            return None
        except ShardError as error:
            logger.warning("%s", error)
            return None
        size = path.stat().st_size if path.is_file() else None
        if not self.is_publishing and size != stored.entry.num_bytes:
            return None
        return ShardRecord(ShardEntry.from_stored(stored.entry), stored.skipped, stored.sources)

    def remove_record(self, number: int) -> None:
        """Marks a shard as not packed."""
        self.shard_path(number).with_suffix(".json").unlink(missing_ok=True)

    def write_record(self, number: int, record: ShardRecord) -> None:
        """Marks a shard as packed."""
        stored = {
            "entry": record.entry.as_json(),
            "skipped": [
                line._replace(reason=make_printable(line.reason)) for line in record.skipped
            ],
            "sources": record.sources,
        }
        path = self.shard_path(number).with_suffix(".json")
        atomic_write(path, json.dumps(stored, separators=(",", ":")).encode())


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)
