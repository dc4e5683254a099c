"""Merging: moves the shards to their final names and writes the manifest, once none is missing."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from md2dist.data.packing.finished import (
    FINISHED_NAME,
    FinishedPacking,
    clear_packed,
    digest_stamps,
    find_finished,
)
from md2dist.data.packing.folder import PackingFolder, ShardRecord, list_finished
from md2dist.data.packing.plan import Plan, check_tasks, library_versions
from md2dist.data.packing.source_files import ChangeFinder, digest_sources
from md2dist.data.shards.manifest import MANIFEST_NAME, Manifest, encode_manifest, write_manifest
from md2dist.errors import KittiDataError, ShardError
from md2dist.storage.atomic import atomic_write, publish

_NUM_NAMED = 10  # missing shards that an error lists


def merge_shards(
    plan: Plan, output: Path, *, num_tasks: int = 1, overwrite: bool = False
) -> Manifest:
    """Makes the folder of shards from the results of all tasks of a packing.

    If interrupted at any moment, it resumes when called again. A packing that is merged already is
    left as it is.

    Args:
        plan: the whole packing.
        output: the folder that the tasks packed into.
        num_tasks: number of tasks, for messages.
        overwrite: replace other shards in the folder.

    Returns:
        The manifest, which is written last.

    Raises:
        ConfigError: if the number of tasks is not positive.
        ShardError: if shards are missing, if a source has changed since, if the folder holds other
            shards, cannot be written, or is in use by another process.
        KittiDataError: if not a single sample could be packed.
    """
    check_tasks(num_tasks)
    if not overwrite and (finished := find_finished(plan, output)):
        return finished
    try:
        folder = PackingFolder(output, plan, overwrite=overwrite)
        with folder.lock(alone=True):
            stamps = digest_stamps(plan)  # before the files are checked: they may change meanwhile
            records = _read_records(folder, plan, num_tasks)
            manifest, numbers = _describe(plan, records)
            if not folder.is_publishing:
                _write_manifest(folder, plan, manifest, stamps)
            _publish(folder, manifest, numbers)
        clear_packed(output)  # after the lock, which is in there, is closed
    except OSError as error:
        raise ShardError(f"shards cannot be written to {output}: {error}") from None
    return manifest


def _read_records(folder: PackingFolder, plan: Plan, num_tasks: int) -> list[ShardRecord]:
    records = {number: folder.read_record(number) for number in range(len(plan.shards))}
    missing = [number for number, record in records.items() if record is None]
    if missing:
        raise ShardError(
            f"{len(missing)} of {len(records)} shards are not packed yet: "
            f"{_name_shards(missing, num_tasks)}; run the missing tasks again (they resume where "
            "they stopped), then merge"
        )
    complete = {number: record for number, record in records.items() if record}
    changed = {} if folder.is_publishing else _find_changed(plan, complete)
    if changed:
        raise ShardError(
            f"{len(changed)} of {len(records)} shards show files that have changed since: "
            f"{_name_shards(list(changed), num_tasks)}; the first file is "
            f"{next(iter(changed.values()))}; run the tasks again with the same files, then merge"
        )
    return list(complete.values())


def _find_changed(plan: Plan, records: Mapping[int, ShardRecord]) -> dict[int, str]:
    """Finds the shards with a changed source file, and the name of one."""
    changes = ChangeFinder(plan.tree)
    found = {number: changes.find(record.sources) for number, record in records.items()}
    return {number: name for number, name in found.items() if name}


def _name_shards(numbers: Sequence[int], num_tasks: int) -> str:
    named = ", ".join(map(str, numbers[:_NUM_NAMED])) + ", ..." * (len(numbers) > _NUM_NAMED)
    tasks = sorted({number % num_tasks for number in numbers})
    return named + (f" of task {', '.join(map(str, tasks))}" if num_tasks > 1 else "")


def _describe(plan: Plan, records: Sequence[ShardRecord]) -> tuple[Manifest, list[int]]:
    """Returns the manifest, and the numbers of the records of its shards."""
    late = [line for record in records for line in record.skipped]
    numbers = [number for number, record in enumerate(records) if record.entry.count]
    if not numbers:
        raise KittiDataError(f"nothing to pack; first reason: {late[0].reason}")
    sources = {name: file.sha256 for record in records for name, file in record.sources.items()}
    drives = {sample.line.drive.rpartition("/")[2] for sample in plan.samples}
    manifest = Manifest(
        recipe=plan.recipe,
        shards=tuple(
            replace(records[number].entry, name=f"shard-{i:06d}.tar")
            for i, number in enumerate(numbers)
        ),
        skipped=(*plan.skipped, *late),
        versions=library_versions(),
        source_digest=digest_sources(sources),
        drives=tuple(sorted(drives)),
    )
    return manifest, numbers


def _write_manifest(folder: PackingFolder, plan: Plan, manifest: Manifest, stamps: str) -> None:
    """Writes the manifest into the working folder, from where shards may be missing afterwards."""
    digest = hashlib.sha256(encode_manifest(manifest)).hexdigest()
    finished = FinishedPacking(plan.fingerprint(), stamps, digest)
    atomic_write(folder.path / FINISHED_NAME, finished.as_json())
    write_manifest(manifest, folder.path)


def _publish(folder: PackingFolder, manifest: Manifest, numbers: list[int]) -> None:
    """Moves the shards; removes earlier ones of the output, their manifest first."""
    output = folder.output
    (output / MANIFEST_NAME).unlink(missing_ok=True)
    for number, entry in zip(numbers, manifest.shards, strict=True):
        if folder.shard_path(number).is_file():
            publish(folder.shard_path(number), output / entry.name)
    names = {entry.name for entry in manifest.shards}
    for path in list_finished(output):
        if path.name not in names:
            path.unlink()
    folder.finish()
