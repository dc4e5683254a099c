"""Random access to the samples of local or remote shards, by byte offset."""

import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import numpy as np

from md2dist.data.shards.entry import ShardEntry
from md2dist.data.shards.files import CachedFiles, FolderFiles, ShardFiles, ShardRange, open_cache
from md2dist.data.shards.image import decode_image
from md2dist.data.shards.manifest import Manifest, read_manifest
from md2dist.data.shards.recipe import view_names
from md2dist.data.shards.sample_info import parse_info
from md2dist.data.shards.sparse_depth import decode_sparse_depth
from md2dist.data.shards.tar_sample import sample_members
from md2dist.errors import ShardError
from md2dist.storage.addresses import public_address
from md2dist.storage.cache import OpenFile
from md2dist.storage.open_store import is_url, open_store
from md2dist.storage.read_ahead import read_ahead
from md2dist.storage.retries import BACKGROUND, RetryPolicy
from md2dist.storage.store import NUM_AT_ONCE

_OPEN_FILES = 64  # per dataset and process, far below the usual limit of 1024 files
_NUM_THREADS = 4  # threads that read ahead, per process


class Sample(NamedTuple):
    """One decoded sample."""

    key: str
    frames: dict[str, np.ndarray]  # "0", "-1", "+1", "s" -> (H, W, 3) uint8 RGB
    info: dict[str, Any]  # drive, frame, side, native size, K, baseline, ...
    ground_truth: np.ndarray | None  # (native H, native W) float32 in m, 0 where unknown


class ShardDataset:
    """The samples of a folder of shards as a sequence: ``dataset[i]`` is decoded sample i.

    The shards may also be in a remote store; samples are then fetched into a cache on a disk of
    this node. Files are opened when they are first read, and reads do not depend on a file
    position, so a dataset may be shared between threads, inherited by forked processes and pickled.

    Args:
        folder: a folder that holds ``index.json`` and the shards it lists, or its address:
            ``http://...``, ``https://...``, ``s3://bucket/prefix``, or ``pipe:COMMAND`` where
            ``{}`` is replaced by a file name.
        cache_dir: folder for fetched samples. None: a folder below the system's temporary folder
            for a remote store, and no cache for a local folder.
        cache_gb: size limit of the cache, GB.
        retry_policy: retries and timeout for a store that fails or stalls.

    Attributes:
        folder: as passed in.
        place: the folder for messages, an address without its secrets.
        manifest: manifest of the shards.

    Raises:
        ShardError: if there is no usable manifest.
        ConfigError: if `cache_gb` is not a finite number > 0.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        cache_dir: str | Path | None = None,
        cache_gb: float = 50.0,
        retry_policy: RetryPolicy = BACKGROUND,
    ):
        manifest = read_manifest(folder, retry_policy)
        if is_url(folder) or cache_dir is not None:
            store = open_store(folder, retry_policy.timeout)
            files = CachedFiles(store, manifest, open_cache(cache_dir, cache_gb), retry_policy)
        else:
            folder = Path(folder)
            files = FolderFiles(folder, manifest)
        self.__setstate__((folder, manifest, files))

    def __getstate__(self) -> tuple[str | Path, Manifest, ShardFiles]:
        return self.folder, self.manifest, self._files

    def __setstate__(self, state: tuple[str | Path, Manifest, ShardFiles]) -> None:
        self.folder, self.manifest, self._files = state
        self.place = public_address(str(self.folder))
        sizes = np.array(self.manifest.shard_sizes, np.int64)
        self._starts = np.cumsum(sizes) - sizes
        self._open = lru_cache(_OPEN_FILES)(self._files.open)

    @property
    def reads_whole_shards(self) -> bool:
        """Whether reading a sample fetches its whole shard, as the store serves no byte ranges."""
        return self._files.reads_whole_shards

    @property
    def cache_bytes(self) -> int | None:
        """Size limit of the cache in bytes; None if the shards are read in place."""
        return self._files.cache_bytes

    @property
    def most_open_files(self) -> int:
        """Most files that one process has open to read samples."""
        ahead = self._files.read_ahead_limits(1)
        return (ahead.num_files if ahead else 0) + min(_OPEN_FILES, len(self))

    def __len__(self) -> int:
        return self.manifest.num_samples

    def __repr__(self) -> str:
        recipe = self.manifest.recipe
        views = " ".join(view_names(recipe.frame_offsets, recipe.use_stereo))
        return (
            f"ShardDataset({self.place!r}: {len(self)} samples of {recipe.split} in "
            f"{len(self.manifest.shards)} shards, {recipe.size_name} "
            f"{recipe.image_format}, views {views}, ground truth {recipe.ground_truth})"
        )

    def __getitem__(self, index: int) -> Sample:
        """Reads and decodes one sample.

        Raises:
            IndexError: if the index is out of range; negative ones count from the end.
            ShardError: if its shard is missing or damaged.
        """
        return self.decode(index, self.raw(index))

    def raw(self, index: int) -> dict[str, Any]:
        """Reads one sample without decoding it.

        Args:
            index: sample index; negative ones count from the end.

        Returns:
            The encoded members as bytes-like objects by name ("0.png", "json", ...), and the
            sample's key as "__key__".

        Raises:
            IndexError: if the index is out of range.
            ShardError: if its shard is missing or damaged.
        """
        shard_range = self._extent(index)
        return self._read(index, shard_range, self._open(shard_range))

    def stream(self, indices: Iterable[int], num_sharers: int = 1) -> Iterator[dict[str, Any]]:
        """Reads samples in order; those in a remote store are fetched ahead of use.

        Args:
            indices: sample numbers.
            num_sharers: number of processes of this node that read ahead into the same cache.

        Yields:
            The members of each sample, as `raw` returns them.

        Raises:
            IndexError: as `raw`, as soon as read-ahead reaches the index.
            ShardError: as `raw`, when iteration reaches the sample.
        """
        limits = self._files.read_ahead_limits(num_sharers)
        if limits is None:
            yield from map(self.raw, indices)
            return
        items = (
            ((index, shard_range), shard_range)
            for index in indices
            for shard_range in [self._extent(index)]
        )
        size_of = attrgetter("num_bytes")
        files = read_ahead(items, self._files.open, size_of, limits, _NUM_THREADS)
        for (index, shard_range), file in files:
            yield self._read(index, shard_range, file)

    def samples(self, indices: Sequence[int], num_sharers: int = 1) -> Iterator[Sample]:
        """Reads and decodes samples in order, with the read-ahead of `stream`.

        Args:
            indices: sample numbers.
            num_sharers: number of processes of this node that read ahead into the same cache.

        Raises:
            IndexError: as `stream`.
            ShardError: when iteration reaches a sample that cannot be read or is damaged.
        """
        for index, members in zip(indices, self.stream(indices, num_sharers), strict=True):
            yield self.decode(index, members)

    def check_files(self, part: int = 0, num_parts: int = 1) -> None:
        """Checks that every shard exists and has its full size; contents are not read.

        Args:
            part: index of this process among those that share the work, from 0.
            num_parts: number of these processes.

        Raises:
            ShardError: if shards are missing or truncated, with their number and the first one;
                or as soon as the store keeps failing or refuses to answer.
        """
        entries = self.manifest.shards[part::num_parts]
        is_failing = Event()

        def find_fault(entry: ShardEntry) -> str:
            if is_failing.is_set():  # do not repeat the retries for every other shard
                return ""
            try:
                return self._files.find_fault(entry)
            except ShardError:
                is_failing.set()
                raise

        with ThreadPoolExecutor(NUM_AT_ONCE) as pool:
            faults = [fault for fault in pool.map(find_fault, entries) if fault]
        if faults:
            raise ShardError(
                f"{len(faults)} of {len(entries)} shards in {self.place} are missing or differ "
                f"in size from index.json, first: {faults[0]}; copy them again, or pack again"
            )

    def damage(self, index: int, reason: object) -> ShardError:
        """Returns the error for a damaged sample, with its location, the reason and the remedy."""
        shard, place = self._locate(index)
        entry = self.manifest.shards[shard]
        if isinstance(reason, KeyError):
            reason = f"lacks {reason}"
        return ShardError(
            f"sample {index} at byte {entry.offsets[place]} of {self.place}/{entry.name} is "
            f"damaged ({reason}); find all damaged shards with "
            f"`md2dist verify {self.place}`, then copy or pack them again"
        )

    def _locate(self, index: int) -> tuple[int, int]:
        """Returns the index of a sample's shard and the sample's position in it."""
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"sample index {index} is out of range for {len(self)} samples")
        shard = int(np.searchsorted(self._starts, number, side="right")) - 1
        return shard, number - int(self._starts[shard])

    def _extent(self, index: int) -> ShardRange:
        return self._files.shard_range(*self._locate(index))

    def decode(self, index: int, members: dict[str, Any]) -> Sample:
        """Decodes one sample.

        Args:
            index: its number.
            members: as `raw` and `stream` return them.

        Raises:
            ShardError: if it is damaged.
        """
        recipe = self.manifest.recipe
        ground_truth = recipe.ground_truth_name
        try:
            info = parse_info(members["json"])
            size = recipe.height or info["height"], recipe.width or info["width"]
            native_size = info["native_height"], info["native_width"]
            return Sample(
                key=members["__key__"],
                frames={
                    view: decode_image(members[f"{view}.{recipe.image_format}"], size)
                    for view in view_names(recipe.frame_offsets, recipe.use_stereo)
                },
                info=info,
                ground_truth=decode_sparse_depth(members[ground_truth], native_size)
                if ground_truth
                else None,
            )
        except Exception as error:  # on damaged bytes, decoders raise errors of many types
            raise self.damage(index, error) from None

    def _read(self, index: int, shard_range: ShardRange, file: OpenFile) -> dict[str, Any]:
        """Reads one sample from its open file."""
        shard, place = self._locate(index)
        entry = self.manifest.shards[shard]
        start, stop = entry.offsets[place : place + 2].tolist()

        def read() -> bytes:
            return os.pread(file.descriptor, stop - start, start - shard_range.start)

        try:
            section = read()
            if zlib.crc32(section) != entry.crc32[place]:
                self._open.cache_clear()
                self._files.discard(file)
                file = self._files.open(shard_range)  # fetches a damaged copy again
                section = read()
            if zlib.crc32(section) != entry.crc32[place]:
                raise ShardError("its checksum differs from index.json")
            return sample_members(section)
        except (ShardError, OSError) as error:
            raise self.damage(index, error) from None
