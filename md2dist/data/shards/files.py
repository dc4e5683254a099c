"""Files that samples are read from: local shards, or copies in the cache."""

import os
import zlib
from functools import partial
from io import BufferedRandom
from math import inf
from pathlib import Path
from typing import NamedTuple, Protocol

from md2dist.data.shards.entry import ShardEntry
from md2dist.data.shards.manifest import MANIFEST_NAME, Manifest
from md2dist.errors import ConfigError, ShardError
from md2dist.storage.cache import OpenFile, ShardCache
from md2dist.storage.cache_folder import NAME, default_cache_folder
from md2dist.storage.hashing import hash_stream
from md2dist.storage.read_ahead import ReadAheadLimits
from md2dist.storage.retries import RetryPolicy
from md2dist.storage.store import Store, StoreError, fetch_checked, with_retries
from md2dist.storage.transfer import Transfer

MOST_OPEN_SHARDS = 512  # open files per process; the usual limit is 1024
_FILES_AHEAD = 64  # samples open per process, if samples are fetched
_SAMPLES_AHEAD = 1 << 14  # samples read ahead per process, if whole shards are fetched


class ShardRange(NamedTuple):
    """Byte range of a shard that is read as one file: a sample, or the whole shard."""

    shard: int  # index in the manifest
    place: int | None  # position of the sample in the shard; None: the whole shard
    start: int  # first byte
    stop: int  # end, exclusive

    @property
    def num_bytes(self) -> int:
        """Length of the range."""
        return self.stop - self.start


class ShardFiles(Protocol):
    """Source of a dataset's bytes."""

    reads_whole_shards: bool  # reading a sample fetches its whole shard
    cache_bytes: int | None  # size limit of the cache; None: no cache

    def shard_range(self, shard: int, place: int) -> ShardRange:
        """Returns the byte range to open for a sample."""
        ...

    def open(self, shard_range: ShardRange) -> OpenFile:
        """Opens a byte range as a file.

        Raises:
            ShardError: if it cannot be read or fetched.
        """
        ...

    def discard(self, file: OpenFile) -> None:
        """Drops a damaged file."""
        ...

    def find_fault(self, entry: ShardEntry) -> str:
        """Compares the size of a shard with its manifest entry.

        Returns:
            A description of the fault; "" if there is none.

        Raises:
            ShardError: if the store keeps failing or refuses to answer.
        """
        ...

    def read_ahead_limits(self, num_sharers: int) -> ReadAheadLimits | None:
        """Returns the read-ahead limits of one of several processes; None: no read-ahead."""
        ...


class FolderFiles:
    """Shards in a local folder, read in place.

    Args:
        folder: folder of the shards.
        manifest: manifest of the shards.
    """

    reads_whole_shards = False
    cache_bytes: int | None = None

    def __init__(self, folder: Path, manifest: Manifest):
        self._folder = folder
        self._manifest = manifest

    def shard_range(self, shard: int, place: int) -> ShardRange:
        """Returns the range of the whole shard."""
        return ShardRange(shard, None, 0, self._manifest.shards[shard].num_bytes)

    def open(self, shard_range: ShardRange) -> OpenFile:
        """Opens a shard."""
        path = self._folder / self._manifest.shards[shard_range.shard].name
        remedy = "copy the shard again, or pack again"
        try:
            file = OpenFile(path, os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        except OSError as error:
            raise ShardError(f"{path} cannot be read ({error.strerror}); {remedy}") from None
        found = os.fstat(file.descriptor).st_size
        if found != shard_range.num_bytes:
            raise ShardError(
                f"{path} has {found} bytes, expected {shard_range.num_bytes} (index.json); {remedy}"
            )
        return file

    def discard(self, file: OpenFile) -> None:
        """Does nothing: there is no copy to drop."""

    def find_fault(self, entry: ShardEntry) -> str:
        """Compares the size of the local file with the manifest."""
        try:
            num_bytes = (self._folder / entry.name).stat().st_size
        except OSError as error:
            return f"{entry.name} cannot be read ({error.strerror})"
        return _compare_size(entry, num_bytes)

    def read_ahead_limits(self, num_sharers: int) -> None:
        """Leaves reading ahead to the operating system."""


class CachedFiles:
    """Shards in a store, read through a cache: by sample if the store serves byte ranges.

    Args:
        store: store of the shards.
        manifest: manifest of the shards.
        cache: cache of this node.
        retry_policy: retries and timeout for a store that fails or stalls.
    """

    def __init__(
        self, store: Store, manifest: Manifest, cache: ShardCache, retry_policy: RetryPolicy
    ):
        self._store = store
        self._manifest = manifest
        self._cache = cache
        self._retry_policy = retry_policy
        self.cache_bytes: int | None = cache.max_bytes
        self.reads_whole_shards = not with_retries(
            store, MANIFEST_NAME, lambda transfer: store.has_ranges(MANIFEST_NAME), retry_policy
        )

    def shard_range(self, shard: int, place: int) -> ShardRange:
        """Returns the range of the sample, or of its shard if whole shards are fetched."""
        entry = self._manifest.shards[shard]
        if self.reads_whole_shards:
            return ShardRange(shard, None, 0, entry.num_bytes)
        return ShardRange(shard, place, *entry.offsets[place : place + 2].tolist())

    def open(self, shard_range: ShardRange) -> OpenFile:
        """Opens a byte range in the cache; a miss is fetched and checked first."""
        return self._cache.open(
            self._key(shard_range), shard_range.num_bytes, partial(self._fetch, shard_range)
        )

    def discard(self, file: OpenFile) -> None:
        """Removes a damaged file from the cache."""
        self._cache.discard(file)

    def find_fault(self, entry: ShardEntry) -> str:
        """Compares the size of the file in the store with the manifest."""

        def compare(transfer: Transfer) -> str:
            try:
                size = self._store.size(entry.name)
            except StoreError as error:
                if not error.is_missing:
                    raise
                return f"{entry.name} cannot be fetched ({error})"
            return "" if size is None else _compare_size(entry, size)

        return with_retries(self._store, entry.name, compare, self._retry_policy)

    def read_ahead_limits(self, num_sharers: int) -> ReadAheadLimits:
        """Splits half of the cache among the processes, which have whole shards in common."""
        allowed = self._cache.max_bytes // 2
        if self.reads_whole_shards:
            return ReadAheadLimits(_SAMPLES_AHEAD, MOST_OPEN_SHARDS, allowed)
        return ReadAheadLimits(_FILES_AHEAD, _FILES_AHEAD, allowed // num_sharers)

    def _key(self, shard_range: ShardRange) -> str:
        """Returns a cache key of the content: the same shard in another store has the same key."""
        digest = self._manifest.shards[shard_range.shard].sha256
        return f"{digest}-{shard_range.start}-{shard_range.stop}"

    def _fetch(self, shard_range: ShardRange, stream: BufferedRandom) -> None:
        byte_range = None if shard_range.place is None else (shard_range.start, shard_range.stop)
        name = self._manifest.shards[shard_range.shard].name
        check = partial(self._check, shard_range)
        fetch_checked(
            self._store,
            name,
            byte_range,
            stream,
            check,
            self._retry_policy,
            max_bytes=shard_range.num_bytes,
        )

    def _check(self, shard_range: ShardRange, stream: BufferedRandom) -> str:
        """Returns a description of what is wrong with fetched bytes; "" if nothing is."""
        if stream.tell() != shard_range.num_bytes:
            return f"received {stream.tell()} bytes, expected {shard_range.num_bytes}"
        stream.seek(0)
        entry = self._manifest.shards[shard_range.shard]
        if shard_range.place is None:
            found, expected = hash_stream(stream), entry.sha256
        else:
            found, expected = zlib.crc32(stream.read()), int(entry.crc32[shard_range.place])
        if found == expected:
            return ""
        return (
            f"bytes {shard_range.start} to {shard_range.stop} have checksum {found}, expected "
            f"{expected} (index.json); they are damaged, or index.json is that of another packing"
        )


def _compare_size(entry: ShardEntry, num_bytes: int) -> str:
    if num_bytes == entry.num_bytes:
        return ""
    return f"{entry.name} has {num_bytes} bytes, expected {entry.num_bytes}"


def open_cache(cache_dir: str | Path | None, cache_gb: float) -> ShardCache:
    """Returns a size-limited cache for fetched bytes; its folder is created on first use.

    Args:
        cache_dir: folder on a disk of this node, in which the cache makes one of its own; None: one
            per user below the temporary folder.
        cache_gb: size limit, GB.

    Raises:
        ConfigError: if `cache_gb` is not a finite number > 0, or other users have taken the place
            below the temporary folder.
    """
    if not 0 < cache_gb < inf:
        raise ConfigError(
            f"cache size {cache_gb} GB: expected a finite number > 0 in data.cache_gb or --cache-gb"
        )
    folder = default_cache_folder() if cache_dir is None else Path(cache_dir) / NAME
    return ShardCache(folder, int(cache_gb * 1e9))
