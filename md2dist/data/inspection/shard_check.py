"""Checks of a shard: bytes, structure, samples; all faults are found, not only the first."""

import hashlib
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from md2dist.data.inspection.descriptions import split_line_of
from md2dist.data.inspection.sample_check import check_sample, image_of_view
from md2dist.data.inspection.tar_structure import TarMember, TarWalk, walk_tar
from md2dist.data.kitti.splits import SplitLine
from md2dist.data.shards.entry import ShardEntry
from md2dist.data.shards.manifest import Manifest
from md2dist.data.shards.recipe import Recipe, view_names
from md2dist.data.shards.sample_info import parse_info
from md2dist.errors import ShardError, escape
from md2dist.process_map import map_in_processes
from md2dist.storage.open_store import map_file

Decode = Literal["all", "sample", "none"]
Checksum = tuple[int, int]  # bytes and CRC-32 of an encoded image
_DECODED_PER_SHARD = 8  # samples, if a random few are decoded


class Fault(NamedTuple):
    """A fault of a folder of shards."""

    place: str  # name of the shard, or the drive
    key: str  # of the sample, "" if it concerns none in particular
    reason: str

    def __str__(self) -> str:
        return escape(f"{self.place}{self.key and ', '}{self.key}: {self.reason}")


class FoundSample(NamedTuple):
    """A sample of a shard, and the checksums of its images."""

    key: str
    line: SplitLine
    images: dict[SplitLine, Checksum]


class ShardReport(NamedTuple):
    """Faults and samples of one shard."""

    name: str
    faults: list[Fault]
    samples: list[FoundSample]


class _Job(NamedTuple):
    """One shard to check."""

    folder: str | Path
    entry: ShardEntry
    recipe: Recipe
    decode: Decode
    seed: int


def check_shards(
    folder: str | Path,
    manifest: Manifest,
    *,
    decode: Decode = "all",
    seed: int = 0,
    processes: int = 1,
) -> Iterator[ShardReport]:
    """Checks every shard: its bytes, its structure, its samples.

    Args:
        folder: folder or URL of the shards.
        manifest: their manifest.
        decode: images and ground truth of all samples, of a random few per shard, or of none.
        seed: seed of the random choice.
        processes: number of worker processes.

    Yields:
        The report of each shard, in the manifest's order.

    Raises:
        ConfigError: if the number of processes is not positive.
    """
    jobs = [
        _Job(folder, entry, manifest.recipe, decode, seed + i)
        for i, entry in enumerate(manifest.shards)
    ]
    yield from map_in_processes(_check_shard, jobs, processes)


def _check_shard(job: _Job) -> ShardReport:
    name, recipe = job.entry.name, job.recipe
    try:
        content = map_file(job.folder, name, job.entry.num_bytes)
    except (OSError, ShardError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return ShardReport(name, [Fault(name, "", f"cannot be read ({reason})")], [])
    walk = walk_tar(content, job.entry.offsets.tolist())
    faults = [Fault(name, "", reason) for reason in _check_bytes(content, job.entry)]
    faults += [Fault(name, "", f"byte {position}: {reason}") for position, reason in walk.faults]
    faults += [Fault(name, "", reason) for reason in _check_offsets(walk, job.entry, len(content))]
    by_key: dict[str, dict[int, TarMember]] = defaultdict(dict)
    for index, member in enumerate(walk.members):
        by_key[member.key][index] = member
    cut_keys = _keys_of_cut_samples(walk, job.entry)
    chosen_keys = _choose(list(by_key), job)
    samples = []
    for key, members in by_key.items():
        faults += [Fault(name, key, reason) for reason in _check_contiguity(members)]
        contents = {member.name: content[member.start : member.stop] for member in members.values()}
        if key not in cut_keys:
            reasons = check_sample(key, contents, recipe, decode=key in chosen_keys)
            faults += [Fault(name, key, reason) for reason in reasons]
        with suppress(KeyError, ShardError):  # reported above
            line = split_line_of(parse_info(contents["json"]))
            samples.append(FoundSample(key, line, _sum_images(line, contents, recipe)))
    return ShardReport(name, faults, samples)


def _check_bytes(content: memoryview, entry: ShardEntry) -> Iterator[str]:
    if len(content) != entry.num_bytes:
        yield f"has {len(content)} bytes, index.json says {entry.num_bytes}"
    elif hashlib.sha256(content).hexdigest() != entry.sha256:
        yield "its sha256 differs from index.json"
    else:
        byte_ranges = zip(entry.offsets.tolist(), entry.offsets[1:].tolist(), strict=False)
        sums = [zlib.crc32(content[start:stop]) for start, stop in byte_ranges]
        if sums != entry.crc32.tolist():
            yield "the checksums of its samples differ from index.json"


def _check_offsets(walk: TarWalk, entry: ShardEntry, num_bytes: int) -> Iterator[str]:
    """Compares the offsets of the samples with those in the manifest."""
    listed = entry.offsets.tolist()
    keys_before = ["", *(member.key for member in walk.members)]
    borders = {
        member.header
        for member, key_before in zip(walk.members, keys_before, strict=False)
        if member.key != key_before
    } | {walk.end}
    reported = {fault.position for fault in walk.faults}
    for offset in sorted(borders.difference(listed) - reported):
        yield f"byte {offset}: a sample starts or the last one ends, which index.json lacks"
    for offset in sorted(set(listed) - borders - reported):
        if offset < num_bytes:
            yield f"byte {offset}: index.json lists it, but no sample starts or ends there"
    if num_lost := sum(offset >= num_bytes for offset in listed[:-1]):
        yield f"{num_lost} of {entry.count} samples are after the end of the file"


def _keys_of_cut_samples(walk: TarWalk, entry: ShardEntry) -> set[str]:
    """Returns the samples truncated by a damaged header, whose missing members are no new fault."""
    cuts = {fault.position for fault in walk.faults}.difference(entry.offsets.tolist())
    before = {member.next_header: member.key for member in walk.members}
    return {before[position] for position in cuts if position in before}


def _check_contiguity(members: dict[int, TarMember]) -> Iterator[str]:
    """Checks that the members of a sample are contiguous, as every WebDataset reader requires.

    Args:
        members: of one sample, by their index among all members of the shard.
    """
    if max(members) - min(members) >= len(members):
        places = ", ".join(f"{member.name} at byte {member.header}" for member in members.values())
        yield f"its members are not contiguous: {places}"
    for name, count in Counter(member.name for member in members.values()).items():
        if count > 1:
            yield f"holds {name} {count} times"


def _choose(keys: list[str], job: _Job) -> set[str]:
    count = {"all": len(keys), "none": 0, "sample": _DECODED_PER_SHARD}[job.decode]
    return set(np.random.default_rng(job.seed).permutation(keys)[:count].tolist())


def _sum_images(
    line: SplitLine, contents: dict[str, memoryview], recipe: Recipe
) -> dict[SplitLine, Checksum]:
    encoded = {
        image_of_view(line, view): contents.get(f"{view}.{recipe.image_format}")
        for view in view_names(recipe.frame_offsets, recipe.use_stereo)
    }
    return {
        image: (len(content), zlib.crc32(content))
        for image, content in encoded.items()
        if content is not None
    }
