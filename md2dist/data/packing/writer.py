"""Packing: the planned samples of one task become shards, several at a time, in a folder aside."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from md2dist.data.kitti.splits import SkippedLine
from md2dist.data.kitti.tree import SourceTree
from md2dist.data.packing.folder import PackingFolder, ShardRecord
from md2dist.data.packing.image_store import StoredImage, store_images
from md2dist.data.packing.plan import Plan, PlannedSample, check_tasks, refuse_sample
from md2dist.data.packing.sample_packer import SamplePacker
from md2dist.data.packing.source_files import is_unchanged
from md2dist.data.shards.entry import ShardEntry, describe_shard
from md2dist.errors import KittiDataError, ShardError
from md2dist.process_map import map_in_processes
from md2dist.storage.atomic import atomic_open


class Progress(NamedTuple):
    """What a task has done, and what others or an earlier start had done for it."""

    num_shards: int  # that are the task's
    num_kept: int  # of these, how many were there already
    num_images: int  # distinct images that were decoded, resized and encoded
    image_seconds: float  # that this took, summed over the processes


class _Job(NamedTuple):
    """One shard to be packed, by whichever process comes first."""

    folder: PackingFolder
    number: int
    plan: Plan  # with this shard's samples alone
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
    """Packs the shards of one task, but for those that are packed already.

    Shard k belongs to task k % num_tasks. The bytes of a shard depend on the plan and its sources
    alone, neither on tasks, nor on processes, nor on what was interrupted. A shard that had to
    leave out samples, or of which a file has another size now, is packed again.

    Args:
        plan: the whole packing.
        output: the folder that shall hold the shards of all tasks; it is made where it does not
            exist. Nothing in it gets a final name before `merge_shards`.
        task_index: number of this task, from 0.
        num_tasks: that share the packing.
        num_processes: that work at the same time.
        overwrite: other shards in the folder may be replaced, once these are merged.
        show_progress: draw bars on the terminal.

    Raises:
        ConfigError: if there is no such task, or would be no process.
        ShardError: if the folder holds other shards, cannot be written, or is being merged.
        KittiDataError: if a source file is broken and the plan does not skip bad ones.
    """
    check_tasks(num_tasks, task_index, num_processes)
    shards = list(enumerate(plan.shards))[task_index::num_tasks]
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
    """Packs those of some shards that are not there."""
    kept = {number for number, _ in shards if _is_packed(folder, number, plan.tree)}
    names = {n: _image_names(samples) for n, samples in shards if n not in kept}
    store = store_images(
        plan.tree,
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


def _is_packed(folder: PackingFolder, number: int, tree: SourceTree) -> bool:
    """Whether a shard is there, and packing it again would give nothing else."""
    record = folder.read_record(number)
    if record is None or folder.is_publishing:
        return record is not None
    unchanged = all(is_unchanged(tree, name, source) for name, source in record.sources.items())
    return unchanged and not record.skipped


def _image_names(samples: Sequence[PlannedSample]) -> set[str]:
    return {name for sample in samples for name in sample.views.values()}


def _pack_shard(job: _Job) -> None:
    plan = job.plan
    packer = SamplePacker(plan.tree, plan.recipe, job.folder.images, job.images, job.broken)
    skipped: list[SkippedLine] = []

    def members() -> Iterator[dict[str, str | bytes]]:
        for sample in plan.samples:
            try:
                yield packer.pack(sample)
            except KittiDataError as error:
                if not plan.skip_bad:
                    raise refuse_sample(plan.tree, error) from None
                skipped.append(SkippedLine(str(sample.line), str(error)))

    job.folder.remove_record(job.number)
    entry = write_shard(job.folder.shard_path(job.number), members())
    job.folder.write_record(job.number, ShardRecord(entry, skipped, packer.sources))


def write_shard(path: Path, samples: Iterable[dict[str, str | bytes]]) -> ShardEntry:
    """Writes one tar whose bytes depend on nothing but the samples.

    Args:
        path: the new file.
        samples: members by their name behind the key, with the key itself as ``__key__``.
    """
    # Imported late: it imports torch, for seconds that processes which only encode images save.
    from webdataset.writer import TarWriter

    offsets = [0]
    with atomic_open(path) as stream, TarWriter(stream, encoder=False, mtime=0) as writer:
        # WebDataset would stamp the time of day; owner and mode are its constants.
        for members in samples:
            writer.write(members)
            offsets.append(writer.tarstream.offset)
    return describe_shard(path, np.array(offsets))
