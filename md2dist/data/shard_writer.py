"""Packing: planned samples become shards, several at a time, which appear once all are done."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.features
from webdataset.writer import TarWriter

from md2dist.data.process_map import map_in_processes
from md2dist.data.sample_packer import SamplePacker
from md2dist.data.shard_format import (
    MANIFEST_NAME,
    Manifest,
    Recipe,
    ShardEntry,
    SkippedLine,
    write_manifest,
)
from md2dist.data.shard_plan import PlannedSample, skip_line
from md2dist.errors import KittiError, ShardError

_ASIDE = ".packing"  # shards grow here, inside the output folder, and leave when all are whole


class _Job(NamedTuple):
    """One shard to be packed, by whichever process comes first."""

    path: Path
    root: Path
    recipe: Recipe
    samples: Sequence[PlannedSample]
    skip_bad: bool


class _Packed(NamedTuple):
    """What is known of a shard when it is packed."""

    entry: ShardEntry
    skipped: list[SkippedLine]
    source_digests: dict[str, str]


def write_shard(path: Path, samples: Iterable[dict[str, str | bytes]]) -> ShardEntry:
    """Writes one tar whose bytes depend on nothing but the samples.

    Args:
        path: the new file.
        samples: members by their name behind the key, with the key itself as ``__key__``.
    """
    offsets = [0]
    with path.open("wb") as stream:
        # WebDataset would stamp the time of day; owner and mode are its constants.
        with TarWriter(stream, encoder=False, mtime=0) as writer:
            for members in samples:
                writer.write(members)
                offsets.append(writer.tarstream.offset)
        stream.flush()
        os.fsync(stream.fileno())
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    count, num_bytes = len(offsets) - 1, path.stat().st_size
    return ShardEntry(path.name, num_bytes, sha256, count, np.array(offsets, np.int64))


def write_shards(
    root: Path,
    samples: Sequence[PlannedSample],
    recipe: Recipe,
    output: Path,
    *,
    skipped: Sequence[SkippedLine] = (),
    num_processes: int = 1,
    skip_bad: bool = False,
    overwrite: bool = False,
    on_shard: Callable[[int], object] = lambda num_samples: None,
) -> Manifest:
    """Packs samples into a folder of shards; the same input gives the same bytes.

    Args:
        root: folder of the dates of KITTI raw.
        samples: what to pack, in this order.
        recipe: how to pack it.
        output: the folder; it is made where it does not exist.
        skipped: lines that were left out before, for the manifest.
        num_processes: shards that are packed at the same time.
        skip_bad: leave out samples with a broken file, instead of stopping at the first.
        overwrite: replace the shards that lie in the folder.
        on_shard: is told the number of samples done with after each shard.

    Returns:
        The manifest, which is also written, last of all.

    Raises:
        ShardError: if the folder holds shards already, or cannot be written.
        KittiError: if a source file is broken, or with `skip_bad` every sample has one.
    """
    if _old_files(output) and not overwrite:
        raise ShardError(f"{output} holds shards already; choose another folder, or --overwrite")
    aside, size = output / _ASIDE, recipe.samples_per_shard
    jobs = [
        _Job(aside / f"{start}.tar", root, recipe, samples[start : start + size], skip_bad)
        for start in range(0, len(samples), size)
    ]
    try:
        shutil.rmtree(aside, ignore_errors=True)  # left by a run that was killed
        aside.mkdir(parents=True)
        packed = []
        for job, shard in zip(jobs, map_in_processes(_pack, jobs, num_processes), strict=True):
            packed.append(shard)
            on_shard(len(job.samples))
        return _publish(output, packed, recipe, skipped)
    except OSError as error:
        raise ShardError(f"shards cannot be written to {output}: {error}") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _old_files(output: Path) -> list[Path]:
    """The manifest, which must go first, and shards."""
    return [*output.glob(MANIFEST_NAME), *output.glob("shard-*.tar")]


def _publish(
    output: Path, packed: Sequence[_Packed], recipe: Recipe, skipped: Sequence[SkippedLine]
) -> Manifest:
    late = [line for shard in packed for line in shard.skipped]
    full = [shard.entry for shard in packed if shard.entry.count]
    if not full:
        raise KittiError(f"nothing to pack; first reason: {late[0].reason}")
    digests = {name: digest for shard in packed for name, digest in shard.source_digests.items()}
    listing = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
    manifest = Manifest(
        recipe=recipe,
        shards=tuple(replace(entry, name=f"shard-{i:06d}.tar") for i, entry in enumerate(full)),
        skipped=(*skipped, *late),
        versions=_library_versions(),
        source_digest=hashlib.sha256(listing.encode()).hexdigest(),
    )
    for path in _old_files(output):
        path.unlink()
    for old, new in zip(full, manifest.shards, strict=True):
        (output / _ASIDE / old.name).replace(output / new.name)
    write_manifest(manifest, output)
    return manifest


def _library_versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("md2dist", "numpy", "pillow", "webdataset")}
    codecs = {
        name: PIL.features.version(name) for name in ("libjpeg_turbo", "zlib", "zlib_ng", "webp")
    }
    return packages | {name: found for name, found in codecs.items() if found}


def _pack(job: _Job) -> _Packed:
    packer = SamplePacker(job.root, job.recipe, job.samples)
    skipped: list[SkippedLine] = []

    def members() -> Iterator[dict[str, str | bytes]]:
        for sample in job.samples:
            try:
                yield packer.pack(sample)
            except KittiError as error:
                if not job.skip_bad:
                    raise KittiError(f"{error} (--skip-bad leaves such samples out)") from None
                skipped.append(skip_line(job.root, sample.line, error))

    return _Packed(write_shard(job.path, members()), skipped, packer.source_digests)
