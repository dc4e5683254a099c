"""Merging: moves the shards to their final names and writes the manifest, once none is missing."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from md2dist.data.kitti.splits import SkippedLine
from md2dist.data.packing.finished import (
    FinishedPacking,
    clear_packed,
    digest_stamps,
    find_finished,
)
from md2dist.data.packing.folder import PackingFolder, ShardRecord
from md2dist.data.packing.made_files import claim_names, remove_replaced
from md2dist.data.packing.plan import Plan, check_tasks
from md2dist.data.packing.skipped_samples import encode_skipped, summarize_skipped
from md2dist.data.packing.source_files import ChangeFinder, digest_sources
from md2dist.data.packing.working_names import FINISHED_NAME, SKIPPED_NAME
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
            skipped = [*plan.skipped, *(line for record in records for line in record.skipped)]
            manifest, numbers = _describe(plan, records, skipped)
            if not folder.is_publishing:
                _write_manifest(folder, plan, manifest, encode_skipped(skipped), stamps)
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
    changes = ChangeFinder(plan.source.files)
    found = {number: changes.find(record.sources) for number, record in records.items()}
    return {number: name for number, name in found.items() if name}


def _name_shards(numbers: Sequence[int], num_tasks: int) -> str:
    named = ", ".join(map(str, numbers[:_NUM_NAMED])) + ", ..." * (len(numbers) > _NUM_NAMED)
    tasks = sorted({number % num_tasks for number in numbers})
    return named + (f" of task {', '.join(map(str, tasks))}" if num_tasks > 1 else "")


def _describe(
    plan: Plan, records: Sequence[ShardRecord], skipped: Sequence[SkippedLine]
) -> tuple[Manifest, list[int]]:
    """Returns the manifest, and the numbers of the records of its shards."""
    numbers = [number for number, record in enumerate(records) if record.entry.count]
    if not numbers:
        reason = skipped[len(plan.skipped)].reason  # of the samples whose files were found
        raise KittiDataError(f"nothing to pack; first reason: {reason}")
    sources = {name: file.sha256 for record in records for name, file in record.sources.items()}
    drives = {sample.line.drive.rpartition("/")[2] for sample in plan.samples}
    manifest = Manifest(
        recipe=plan.recipe,
        shards=tuple(
            replace(records[number].entry, name=f"shard-{i:06d}.tar")
            for i, number in enumerate(numbers)
        ),
        skipped=summarize_skipped(skipped),
        versions=plan.libraries(),
        source_digest=digest_sources(sources),
        drives=tuple(sorted(drives)),
    )
    return manifest, numbers


def _write_manifest(
    folder: PackingFolder, plan: Plan, manifest: Manifest, skipped: bytes, stamps: str
) -> None:
    """Writes the manifest into the working folder, from where shards may be missing afterwards."""
    names = [entry.name for entry in manifest.shards]
    names += [FINISHED_NAME, MANIFEST_NAME, *([SKIPPED_NAME] * bool(skipped))]
    claim_names(folder.output, folder.path, names)
    if skipped:
        atomic_write(folder.path / SKIPPED_NAME, skipped)
    finished = FinishedPacking(
        plan.fingerprint(),
        stamps,
        manifest=hashlib.sha256(encode_manifest(manifest)).hexdigest(),
        skipped=hashlib.sha256(skipped).hexdigest() if skipped else "",
    )
    atomic_write(folder.path / FINISHED_NAME, finished.as_json())
    write_manifest(manifest, folder.path)


def _publish(folder: PackingFolder, manifest: Manifest, numbers: list[int]) -> None:
    """Moves the shards; removes earlier ones of the output, their manifest first."""
    names = [entry.name for entry in manifest.shards]
    remove_replaced(folder.output, folder.path, keep=names)
    for number, name in zip(numbers, names, strict=True):
        if folder.shard_path(number).is_file():
            publish(folder.shard_path(number), folder.output / name)
    folder.finish()
