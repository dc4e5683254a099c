"""Working folder of a packing; shards move out once all are complete.

OUTPUT/.packing/lock                locked shared while packing, exclusively while merging
OUTPUT/.packing/PLAN/plan.json      fingerprint of the plan; PLAN is its digest
OUTPUT/.packing/PLAN/images/        stored images
OUTPUT/.packing/PLAN/000012.tar     a complete shard
OUTPUT/.packing/PLAN/000012.json    its record; without it, the shard counts as not packed
OUTPUT/.packing/PLAN/index.json     the manifest, while the shards move to their final names
OUTPUT/.packed                      the former .packing after a merge, until it is deleted
"""

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from md2dist.data.kitti.splits import SkippedLine
from md2dist.data.packing.plan import Plan
from md2dist.data.packing.source_files import Fingerprint
from md2dist.data.shards.entry import ShardEntry
from md2dist.data.shards.manifest import MANIFEST_NAME
from md2dist.errors import ShardError
from md2dist.storage.atomic import atomic_write, is_same_file

PACKING_NAME = ".packing"
_PACKED_NAME = ".packed"
_PLAN_NAME = "plan.json"
_LOCK_NAME = "lock"


class ShardRecord(NamedTuple):
    """Record of a packed shard."""

    entry: ShardEntry
    skipped: list[SkippedLine]
    sources: dict[str, Fingerprint]  # source files of its samples, by relative path


class PackingFolder:
    """Working folder of one packing; any number of tasks may use it at the same time.

    Args:
        output: the output folder of the shards.
        plan: the plan to pack.
        overwrite: whether other shards, and other unfinished packings, may be replaced.

    Attributes:
        path: the working folder; created if it does not exist.

    Raises:
        ShardError: if the output contains something that must not be replaced.
        OSError: if the folder cannot be created.
    """

    def __init__(self, output: Path, plan: Plan, *, overwrite: bool = False):
        content = json.dumps(plan.fingerprint(), sort_keys=True)
        name = hashlib.sha256(content.encode()).hexdigest()[:16]
        self.output = output
        self.path = output / PACKING_NAME / name
        clear_packed(output)  # left by a merge that was stopped before its cleanup
        if not overwrite:
            if list_finished(output) and not self.is_publishing:
                raise ShardError(
                    f"{output} already contains shards; choose another folder or pass --overwrite"
                )
            for other in self.path.parent.glob(f"*/{_PLAN_NAME}"):
                if other.parent != self.path:
                    raise _refuse(output, json.loads(other.read_bytes()), json.loads(content))
        self.path.mkdir(parents=True, exist_ok=True)
        atomic_write(self.path / _PLAN_NAME, content.encode())

    @contextmanager
    def lock(self, *, alone: bool) -> Iterator[None]:
        """Locks the folder: shared for packing, exclusive (`alone`) for merging.

        On a file system without locks, no process is kept out.

        Raises:
            ShardError: if another process is merging, or, with `alone`, is packing.
        """
        path = self.path.parent / _LOCK_NAME
        with path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_NB | (fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
                is_free = is_same_file(file.fileno(), path)  # else: just merged
            except BlockingIOError:
                is_free = False
            except OSError:
                is_free = True
            if not is_free:
                raise ShardError(
                    f"another process is packing or merging the shards of {self.output}; wait for "
                    "it to finish, then repeat the command if shards are still missing"
                )
            yield

    def finish(self) -> None:
        """Marks the merge as finished, up to the cleanup by `clear_packed`."""
        for other in self.path.parent.glob(f"*/{MANIFEST_NAME}"):  # of an abandoned merge
            if other.parent != self.path:
                other.unlink()
        self.path.parent.replace(self.output / _PACKED_NAME)

    @property
    def is_publishing(self) -> bool:
        """Whether all shards are complete, and some may already have moved out."""
        return (self.path / MANIFEST_NAME).is_file()

    @property
    def images(self) -> Path:
        """The folder of the stored images."""
        return self.path / "images"

    def shard_path(self, number: int) -> Path:
        """Returns the path of a shard, which need not exist."""
        return self.path / f"{number:06d}.tar"

    def read_record(self, number: int) -> ShardRecord | None:
        """Reads the record of a shard; None if the shard is not packed yet."""
        path = self.shard_path(number)
        try:
            stored = json.loads(path.with_suffix(".json").read_bytes())
        except FileNotFoundError:
            return None
        skipped = [SkippedLine(*line) for line in stored["skipped"]]
        sources = {name: Fingerprint(*source) for name, source in stored["sources"].items()}
        record = ShardRecord(ShardEntry.from_json(stored["entry"]), skipped, sources)
        return record if self.is_publishing or path.is_file() else None

    def remove_record(self, number: int) -> None:
        """Marks a shard as not packed."""
        self.shard_path(number).with_suffix(".json").unlink(missing_ok=True)

    def write_record(self, number: int, record: ShardRecord) -> None:
        """Marks a shard as packed."""
        stored = {
            "entry": record.entry.as_json(),
            "skipped": record.skipped,
            "sources": record.sources,
        }
        path = self.shard_path(number).with_suffix(".json")
        atomic_write(path, json.dumps(stored, separators=(",", ":")).encode())


def list_finished(output: Path) -> list[Path]:
    """Lists the manifest of an output folder, which must be deleted first, and its shards."""
    return [*output.glob(MANIFEST_NAME), *output.glob("shard-*.tar")]


def clear_packed(output: Path) -> None:
    """Moves the manifest of a finished packing to its final name and deletes its leftovers."""
    packed = output / _PACKED_NAME
    for manifest in packed.glob(f"*/{MANIFEST_NAME}"):
        with suppress(FileNotFoundError):  # another process is cleaning up, too
            manifest.replace(output / MANIFEST_NAME)
    shutil.rmtree(packed, ignore_errors=True)


def _refuse(output: Path, theirs: dict[str, object], ours: dict[str, object]) -> ShardError:
    names = [name for name in ours if theirs.get(name) != ours[name]]
    differences = ", ".join(
        f"{name} ({theirs.get(name)} there, {ours[name]} requested)"
        if name not in ("samples", "libraries")
        else name
        for name in names
    )
    return ShardError(
        f"{output} contains an unfinished packing that differs in {differences}; finish it with "
        "its own options, choose another folder, or pass --overwrite to discard it"
    )
