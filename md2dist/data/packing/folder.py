"""Working folder of a packing; shards move out once all are complete.

OUTPUT/.packing/lock                shared while packing, exclusive while merging
OUTPUT/.packing/PLAN/plan.json      the plan; PLAN is its digest
OUTPUT/.packing/PLAN/images/        stored images
OUTPUT/.packing/PLAN/000012.tar     a complete shard
OUTPUT/.packing/PLAN/000012.json    its record; without it, the shard is packed again
OUTPUT/.packing/PLAN/.packed.json   record of the finished packing, and
OUTPUT/.packing/PLAN/index.json     the manifest, while the shards move to their final names
OUTPUT/.packed                      new name of .packing once only its removal is left
"""

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from md2dist.data.kitti.splits import SkippedLine
from md2dist.data.packing.finished import PACKED_NAME, clear_packed, describe_finished
from md2dist.data.packing.plan import Plan, describe_differences
from md2dist.data.packing.source_files import Fingerprint
from md2dist.data.shards.entry import ShardEntry, StoredEntry
from md2dist.data.shards.manifest import MANIFEST_NAME
from md2dist.errors import ShardError
from md2dist.storage.atomic import atomic_write
from md2dist.storage.locks import is_same_file, try_lock
from md2dist.storage.typed_json import Items, make_printable, read_json

logger = logging.getLogger(__name__)

PACKING_NAME = ".packing"
_PLAN_NAME = "plan.json"
_LOCK_NAME = "lock"
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
        content = json.dumps(plan.fingerprint(), sort_keys=True)
        name = hashlib.sha256(content.encode()).hexdigest()[:16]
        self.output = output
        self.path = output / PACKING_NAME / name
        clear_packed(output)  # left by a merge that was stopped before this step
        if not overwrite:
            if list_finished(output) and not self.is_publishing:
                raise ShardError(
                    f"{output} already holds {describe_finished(plan, output)}; choose another "
                    "folder, or pass --overwrite"
                )
            for other in self.path.parent.glob(f"*/{_PLAN_NAME}"):
                if other.parent != self.path:
                    remedy = "pass --overwrite to discard that unfinished packing"
                    differences = describe_differences(
                        plan, read_json(other, dict, ShardError, remedy)
                    )
                    raise ShardError(
                        f"{output} holds an unfinished packing that differs in {differences}; "
                        "finish it with its own options, choose another folder, or pass "
                        "--overwrite to discard it"
                    )
        self.path.mkdir(parents=True, exist_ok=True)
        atomic_write(self.path / _PLAN_NAME, content.encode())

    @contextmanager
    def lock(self, *, alone: bool) -> Iterator[None]:
        """Locks the folder: shared for packing, exclusively for merging.

        On a file system without locks, it has no effect.

        Raises:
            ShardError: if another process merges, or, for an exclusive lock, packs.
        """
        path = self.path.parent / _LOCK_NAME
        with path.open("a+") as file:
            is_locked = try_lock(file, shared=not alone, required=False)
            if not is_locked or not is_same_file(file, path):  # another process has just merged
                raise ShardError(
                    f"another process is packing or merging the shards of {self.output}; wait "
                    "for it, then repeat the command if shards are still missing"
                )
            yield

    def finish(self) -> None:
        """Marks the packing as finished; only `clear_packed` is left to do."""
        for other in self.path.parent.glob(f"*/{MANIFEST_NAME}"):  # left by an abandoned merge
            if other.parent != self.path:
                other.unlink()
        self.path.parent.replace(self.output / PACKED_NAME)

    @property
    def is_publishing(self) -> bool:
        """Whether all shards are complete, and some may have moved already."""
        return (self.path / MANIFEST_NAME).is_file()

    @property
    def images(self) -> Path:
        """Folder of the stored images."""
        return self.path / "images"

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
            "skipped": [tuple(map(make_printable, line)) for line in record.skipped],
            "sources": record.sources,
        }
        path = self.shard_path(number).with_suffix(".json")
        atomic_write(path, json.dumps(stored, separators=(",", ":")).encode())


def list_finished(output: Path) -> list[Path]:
    """Lists the manifest, to be removed first, and the shards of an output folder."""
    return [*output.glob(MANIFEST_NAME), *output.glob("shard-*.tar")]
