"""Where shards grow: a folder inside the output folder, which they leave when all are whole.

OUTPUT/.packing/lock                shared by those who pack, held alone by the one who merges
OUTPUT/.packing/PLAN/plan.json      what is packed here; PLAN is the digest of it
OUTPUT/.packing/PLAN/images/        stored images
OUTPUT/.packing/PLAN/000012.tar     a whole shard
OUTPUT/.packing/PLAN/000012.json    its record; without it, the shard has still to be packed
OUTPUT/.packing/PLAN/index.json     the manifest, while the shards move to their final names
OUTPUT/.packed                      what .packing is called when all is done but to clear it away
"""

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
from md2dist.storage.atomic import atomic_write, publish
from md2dist.storage.locks import is_same_file, try_lock

PACKING_NAME = ".packing"
_PACKED_NAME = ".packed"
_PLAN_NAME = "plan.json"
_LOCK_NAME = "lock"


class ShardRecord(NamedTuple):
    """What is known of a shard when it is packed."""

    entry: ShardEntry
    skipped: list[SkippedLine]
    sources: dict[str, Fingerprint]  # the files of its samples, by relative path


class PackingFolder:
    """The folder of one packing; any number of tasks may work in it at the same time.

    Args:
        output: the folder that shall hold the shards.
        plan: what is packed.
        overwrite: whether other shards, and other unfinished packings, may be replaced.

    Attributes:
        path: the folder, which exists.

    Raises:
        ShardError: if something lies in the output that must not be replaced.
        OSError: if the folder cannot be made.
    """

    def __init__(self, output: Path, plan: Plan, *, overwrite: bool = False):
        content = json.dumps(plan.fingerprint(), sort_keys=True)
        name = hashlib.sha256(content.encode()).hexdigest()[:16]
        self.output = output
        self.path = output / PACKING_NAME / name
        clear_packed(output)  # of a merge that was stopped right before that
        if not overwrite:
            if list_finished(output) and not self.is_publishing:
                raise ShardError(
                    f"{output} holds shards already; choose another folder, or --overwrite"
                )
            for other in self.path.parent.glob(f"*/{_PLAN_NAME}"):
                if other.parent != self.path:
                    raise _refuse(output, json.loads(other.read_bytes()), json.loads(content))
        self.path.mkdir(parents=True, exist_ok=True)
        atomic_write(self.path / _PLAN_NAME, content.encode())

    @contextmanager
    def lock(self, *, alone: bool) -> Iterator[None]:
        """Locks the folder: any number of processes may pack at the same time, one may merge.

        Where the file system has no locks, other processes are not kept out.

        Raises:
            ShardError: if another process merges, or, for a lock held alone, packs.
        """
        path = self.path.parent / _LOCK_NAME
        with path.open("a+") as file:
            is_locked = try_lock(file, shared=not alone, required=False)
            if not is_locked or not is_same_file(file, path):  # a merge has just finished
                raise ShardError(
                    f"another process packs or merges the shards of {self.output}; let it finish, "
                    "then repeat the command if shards are still missing"
                )
            yield

    def finish(self) -> None:
        """Declares that nothing is left to do but what `clear_packed` does."""
        for other in self.path.parent.glob(f"*/{MANIFEST_NAME}"):  # of a merge that was given up
            if other.parent != self.path:
                other.unlink()
        self.path.parent.replace(self.output / _PACKED_NAME)

    @property
    def is_publishing(self) -> bool:
        """Whether all shards are whole, and some may have moved already."""
        return (self.path / MANIFEST_NAME).is_file()

    @property
    def images(self) -> Path:
        """The folder of the stored images."""
        return self.path / "images"

    def shard_path(self, number: int) -> Path:
        """Names a shard, which need not exist."""
        return self.path / f"{number:06d}.tar"

    def read_record(self, number: int) -> ShardRecord | None:
        """Reads the record of a shard; None where the shard is not packed yet."""
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
        """Declares a shard not packed."""
        self.shard_path(number).with_suffix(".json").unlink(missing_ok=True)

    def write_record(self, number: int, record: ShardRecord) -> None:
        """Declares a shard packed."""
        stored = {
            "entry": record.entry.as_json(),
            "skipped": record.skipped,
            "sources": record.sources,
        }
        path = self.shard_path(number).with_suffix(".json")
        atomic_write(path, json.dumps(stored, separators=(",", ":")).encode())


def list_finished(output: Path) -> list[Path]:
    """Lists the manifest, which must go first, and the shards of an output folder."""
    return [*output.glob(MANIFEST_NAME), *output.glob("shard-*.tar")]


def clear_packed(output: Path) -> None:
    """Gives a finished packing's manifest its final name, and removes what else is left of it."""
    packed = output / _PACKED_NAME
    for manifest in packed.glob(f"*/{MANIFEST_NAME}"):
        with suppress(FileNotFoundError):  # another process ends it, too
            publish(manifest, output / MANIFEST_NAME)
    shutil.rmtree(packed, ignore_errors=True)


def _refuse(output: Path, theirs: dict[str, object], ours: dict[str, object]) -> ShardError:
    names = [name for name in ours if theirs.get(name) != ours[name]]
    differences = ", ".join(
        f"{name} ({theirs.get(name)} there, {ours[name]} asked for)"
        if name not in ("samples", "libraries")
        else name
        for name in names
    )
    return ShardError(
        f"{output} holds an unfinished packing that differs in {differences}; finish it with its "
        "own options, choose another folder, or --overwrite to drop it"
    )
