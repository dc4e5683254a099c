"""Merge of a packing: once no shard is missing, moves them to their final names."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from md2dist.data.packing.folder import PackingFolder, ShardRecord, clear_packed, list_finished
from md2dist.data.packing.plan import Plan, check_tasks, library_versions
from md2dist.data.packing.source_files import Fingerprint
from md2dist.data.shards.manifest import MANIFEST_NAME, Manifest, write_manifest
from md2dist.errors import KittiDataError, ShardError

_NUM_NAMED = 10  # missing shards that an error lists


def merge_shards(
    plan: Plan, output: Path, *, num_tasks: int = 1, overwrite: bool = False
) -> Manifest:
    """Merges the shards of all tasks into the output folder and writes the manifest.

    If interrupted at any moment, it resumes there when called again.

    Args:
        plan: the plan of the whole packing.
        output: the folder that the tasks packed into.
        num_tasks: number of tasks, for messages.
        overwrite: replace other shards in the folder.

    Returns:
        The manifest, which is written to the folder last.

    Raises:
        ConfigError: if the number of tasks is not positive.
        ShardError: if shards are missing, if the tasks read different sources, if the folder
            contains other shards, cannot be written, or is in use by another process.
        KittiDataError: if no sample could be packed.
    """
    check_tasks(num_tasks)
    try:
        folder = PackingFolder(output, plan, overwrite=overwrite)
        with folder.lock(alone=True):
            records = _read_records(folder, plan, num_tasks)
            manifest, numbers = _describe(plan, records, folder)
            _publish(folder, manifest, numbers)
        clear_packed(output)  # after the lock file, which is in that folder, is closed
    except OSError as error:
        raise ShardError(f"shards cannot be written to {output}: {error}") from None
    return manifest


def _read_records(folder: PackingFolder, plan: Plan, num_tasks: int) -> list[ShardRecord]:
    records = {number: folder.read_record(number) for number in range(len(plan.shards))}
    missing = [number for number, record in records.items() if record is None]
    if missing:
        named = ", ".join(map(str, missing[:_NUM_NAMED])) + ", ..." * (len(missing) > _NUM_NAMED)
        tasks = sorted({number % num_tasks for number in missing})
        whose = f" of task {', '.join(map(str, tasks))}" if num_tasks > 1 else ""
        raise ShardError(
            f"{len(missing)} of {len(records)} shards are not packed yet: {named}{whose}; "
            "run the missing tasks again (they resume where they stopped), then merge"
        )
    return [record for record in records.values() if record]


def _describe(
    plan: Plan, records: Sequence[ShardRecord], folder: PackingFolder
) -> tuple[Manifest, list[int]]:
    """Returns the manifest, and the numbers of the records that its shards come from."""
    late = [line for record in records for line in record.skipped]
    numbers = [number for number, record in enumerate(records) if record.entry.count]
    if not numbers:
        raise KittiDataError(f"nothing to pack; first reason: {late[0].reason}")
    sources: dict[str, Fingerprint] = {}
    for number, record in enumerate(records):
        for name, source in record.sources.items():
            if sources.setdefault(name, source) != source:
                raise ShardError(
                    f"{name} had different contents when shard {number} was packed than for an "
                    f"earlier shard; give all tasks the same files, delete {folder.path}, and pack "
                    "again"
                )
    listing = "".join(f"{sources[name].sha256}  {name}\n" for name in sorted(sources))
    manifest = Manifest(
        recipe=plan.recipe,
        shards=tuple(
            replace(records[number].entry, name=f"shard-{i:06d}.tar")
            for i, number in enumerate(numbers)
        ),
        skipped=(*plan.skipped, *late),
        versions=library_versions(),
        source_digest=hashlib.sha256(listing.encode()).hexdigest(),
    )
    return manifest, numbers


def _publish(folder: PackingFolder, manifest: Manifest, numbers: list[int]) -> None:
    """Moves the shards to the output; deletes its previous shards, their manifest first."""
    output = folder.output
    write_manifest(manifest, folder.path)  # from here on, shards may have left the folder
    (output / MANIFEST_NAME).unlink(missing_ok=True)
    for number, entry in zip(numbers, manifest.shards, strict=True):
        if folder.shard_path(number).is_file():
            folder.shard_path(number).replace(output / entry.name)
    names = {entry.name for entry in manifest.shards}
    for path in list_finished(output):
        if path.name not in names:
            path.unlink()
    folder.finish()
