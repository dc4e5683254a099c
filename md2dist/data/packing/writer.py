"""Packing: writes the shards of one task into the working folder, several at a time."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from md2dist.data.kitti.splits import SkippedLine
from md2dist.data.packing.finished import find_finished
from md2dist.data.packing.folder import PackingFolder, ShardRecord
from md2dist.data.packing.image_store import StoredImage, store_images
from md2dist.data.packing.plan import Plan, PlannedSample, check_tasks, refuse_sample
from md2dist.data.packing.sample_packer import SamplePacker
from md2dist.data.packing.source_files import ChangeFinder
from md2dist.data.shards.entry import ShardEntry, describe_shard
from md2dist.errors import KittiDataError, ShardError
from md2dist.process_map import map_in_processes
from md2dist.storage.atomic import atomic_open


class Progress(NamedTuple):
    """Result of a task: work done now, and shards that were packed before."""

    num_shards: int  # shards of the task
    num_kept: int  # shards that were packed before
    num_images: int  # distinct images that were decoded, resized and encoded
    image_seconds: float  # time of encoding them, summed over the processes


class _Job(NamedTuple):
    """One shard to pack."""

    folder: PackingFolder
    number: int
    plan: Plan  # with the samples of this shard
    images: dict[str, StoredImage]
    broken: dict[str, str]


def pack_shards(
    plan: Plan,
    output: Path,
    *,
    task_index: int = 0,
    num_tasks: int = 1,
    num_processes: int = 1,
    overwrite: bool = False,
    show_progress: bool = False,
) -> Progress:
    """Packs the shards of one task, except those that are packed already.

    Shard k belongs to task k % num_tasks. The bytes of a shard depend on the plan and its sources
    alone, not on tasks, processes or interruptions. A shard with skipped samples, or with a source
    that has changed, is packed again. Shards that are merged already stay as they are.

    Args:
        plan: the whole packing.
        output: the folder of the shards of all tasks; created if missing. Nothing in it has a final
            name before `merge_shards`.
        task_index: number of this task, from 0.
        num_tasks: number of tasks of the packing.
        num_processes: number of worker processes.
        overwrite: replace other shards in the folder when these are merged.
        show_progress: show progress bars.

    Raises:
        ConfigError: if there is no such task, or the number of processes is not positive.
        ShardError: if the folder holds other shards, cannot be written, or is being merged.
        KittiDataError: if a source file is damaged and the plan does not skip such samples.
    """
    check_tasks(num_tasks, task_index, num_processes)
    shards = list(enumerate(plan.shards))[task_index::num_tasks]
    if not overwrite and find_finished(plan, output):
        return Progress(len(shards), len(shards), 0, 0.0)
    try:
        folder = PackingFolder(output, plan, overwrite=overwrite)
        with folder.lock(alone=False):
            return _pack_missing(folder, plan, shards, num_processes, show_progress)
    except OSError as error:
        raise ShardError(f"shards cannot be written to {output}: {error}") from None


def _pack_missing(
    folder: PackingFolder,
    plan: Plan,
    shards: Sequence[tuple[int, Sequence[PlannedSample]]],
    num_processes: int,
    show_progress: bool,
) -> Progress:
    """Packs the shards that are missing in the folder."""
    changes = ChangeFinder(plan.source.files)
    kept = {number for number, _ in shards if _is_packed(folder, number, changes)}
    names = {n: _image_names(samples) for n, samples in shards if n not in kept}
    store = store_images(
        plan.source.files,
        set().union(*names.values()),
        plan.recipe,
        folder.images,
        num_processes=num_processes,
        skip_bad=plan.skip_bad,
        show_progress=show_progress,
    )
    jobs = [
        _Job(
            folder=folder,
            number=number,
            plan=plan._replace(samples=samples, skipped=()),
            images={name: store.images[name] for name in names[number] if name in store.images},
            broken=store.broken,
        )
        for number, samples in shards
        if number not in kept
    ]
    with tqdm(total=len(jobs), unit="shard", disable=not show_progress) as bar:
        for _ in map_in_processes(_pack_shard, jobs, num_processes):
            bar.update()
    return Progress(len(shards), len(kept), store.num_encoded, store.seconds)


def _is_packed(folder: PackingFolder, number: int, changes: ChangeFinder) -> bool:
    """Whether a shard is packed, and packing it again would give the same bytes."""
    record = folder.read_record(number)
    if record is None or folder.is_publishing:
        return record is not None
    return not record.skipped and changes.find(record.sources) is None


def _image_names(samples: Sequence[PlannedSample]) -> set[str]:
    return {name for sample in samples for name in sample.views.values()}


def _pack_shard(job: _Job) -> None:
    plan = job.plan
    packer = SamplePacker(plan.source, plan.recipe, job.folder.images, job.images, job.broken)
    skipped: list[SkippedLine] = []

    def members() -> Iterator[dict[str, str | bytes]]:
        for sample in plan.samples:
            try:
                yield packer.pack(sample)
            except KittiDataError as error:
                if not plan.skip_bad:
                    raise refuse_sample(plan.source.files, error) from None
                skipped.append(SkippedLine(*sample.line, str(error)))

    job.folder.remove_record(job.number)
    entry = write_shard(job.folder.shard_path(job.number), members())
    job.folder.write_record(job.number, ShardRecord(entry, skipped, packer.sources))


def write_shard(path: Path, samples: Iterable[dict[str, str | bytes]]) -> ShardEntry:
    """Writes one tar whose bytes depend on the samples alone.

    Args:
        path: the new file.
        samples: members of each by their name after the key, with the key itself as ``__key__``.
    """
    # Imported late: it imports torch, which takes seconds in processes that only encode images.
    from webdataset.writer import TarWriter

    offsets = [0]
    with atomic_open(path) as stream, TarWriter(stream, encoder=False, mtime=0) as writer:
        # mtime=0, since WebDataset would write the current time.
        for members in samples:
            writer.write(members)
            offsets.append(writer.tarstream.offset)
    return describe_shard(path, np.array(offsets))
