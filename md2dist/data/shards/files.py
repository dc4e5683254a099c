"""The files that samples are read from: the shards themselves, or copies in the cache."""

import os
import tempfile
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
from md2dist.storage.hashing import hash_stream
from md2dist.storage.read_ahead import ReadAheadLimits
from md2dist.storage.retries import RetryPolicy
from md2dist.storage.store import Store, StoreError, fetch_checked, with_retries

MOST_OPEN_SHARDS = 512  # that a process holds open, of the 1024 files that are usually allowed
_FILES_AHEAD = 64  # samples that it holds open at most
_SAMPLES_AHEAD = 1 << 14  # whose shards it looks at, where it fetches shards


class ShardRange(NamedTuple):
    """Bytes that are read as one file: those of a sample, or of a whole shard."""

    shard: int  # its number
    place: int | None  # of the sample in the shard; None: the whole shard
    start: int  # first byte in the shard
    stop: int  # the byte behind the last one

    @property
    def num_bytes(self) -> int:
        """Their number."""
        return self.stop - self.start


class ShardFiles(Protocol):
    """Where a data set's bytes come from."""

    reads_whole_shards: bool  # to read a sample is to read its shard
    cache_bytes: int | None  # bound of the cache; None: there is none

    def shard_range(self, shard: int, place: int) -> ShardRange:
        """Tells which bytes are read together with those of a sample."""
        ...

    def open(self, shard_range: ShardRange) -> OpenFile:
        """Opens them as a file.

        Raises:
            ShardError: if they cannot be had.
        """
        ...

    def discard(self, file: OpenFile) -> None:
        """Is told that a file is damaged."""
        ...

    def find_fault(self, entry: ShardEntry) -> str:
        """Says what is wrong with a shard as far as its size tells; "" where nothing is.

        Raises:
            ShardError: if the place of all shards cannot be asked, or refuses to answer.
        """
        ...

    def read_ahead_limits(self, num_sharers: int) -> ReadAheadLimits | None:
        """Tells how far ahead one of several processes may open; None: there is no need to."""
        ...


class FolderFiles:
    """Shards that are read where they lie.

    Args:
        folder: of the shards.
        manifest: what they hold.
    """

    reads_whole_shards = False
    cache_bytes: int | None = None

    def __init__(self, folder: Path, manifest: Manifest):
        self._folder = folder
        self._manifest = manifest

    def shard_range(self, shard: int, place: int) -> ShardRange:
        """Takes the whole shard as one file."""
        return ShardRange(shard, None, 0, self._manifest.shards[shard].num_bytes)

    def open(self, shard_range: ShardRange) -> OpenFile:
        """Opens a shard."""
        path = self._folder / self._manifest.shards[shard_range.shard].name
        remedy = "copy the shard again, or pack again"
        try:
            file = OpenFile(path, os.open(path, os.O_RDONLY))
        except OSError as error:
            raise ShardError(f"{path} cannot be read ({error.strerror}); {remedy}") from None
        found = os.fstat(file.descriptor).st_size
        if found != shard_range.num_bytes:
            raise ShardError(
                f"{path} has {found} bytes, index.json says {shard_range.num_bytes}; {remedy}"
            )
        return file

    def discard(self, file: OpenFile) -> None:
        """Can do nothing about it."""

    def find_fault(self, entry: ShardEntry) -> str:
        """Looks at the size of a file."""
        try:
            num_bytes = (self._folder / entry.name).stat().st_size
        except OSError as error:
            return f"{entry.name} cannot be read ({error.strerror})"
        return _compare_size(entry, num_bytes)

    def read_ahead_limits(self, num_sharers: int) -> None:
        """Leaves reading ahead to the operating system."""


class CachedFiles:
    """Shards in a store, through a cache: by samples where the store can, else as a whole.

    Args:
        store: of the shards.
        manifest: what they hold.
        cache: of this node.
        retry_policy: with a store that fails or stalls.
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
            store, MANIFEST_NAME, lambda: store.has_ranges(MANIFEST_NAME), retry_policy
        )

    def shard_range(self, shard: int, place: int) -> ShardRange:
        """Takes a sample, or its shard, as one file."""
        entry = self._manifest.shards[shard]
        if self.reads_whole_shards:
            return ShardRange(shard, None, 0, entry.num_bytes)
        return ShardRange(shard, place, *entry.offsets[place : place + 2].tolist())

    def open(self, shard_range: ShardRange) -> OpenFile:
        """Opens it in the cache, where it is fetched and checked first if it is not there."""
        return self._cache.open(
            self._key(shard_range), shard_range.num_bytes, partial(self._fetch, shard_range)
        )

    def discard(self, file: OpenFile) -> None:
        """Throws it out of the cache."""
        self._cache.discard(file)

    def find_fault(self, entry: ShardEntry) -> str:
        """Asks the store for the size of a file."""

        def look() -> str:
            try:
                size = self._store.size(entry.name)
            except StoreError as error:
                if not error.is_missing:
                    raise
                return f"{entry.name} cannot be had ({error})"
            return "" if size is None else _compare_size(entry, size)

        return with_retries(self._store, entry.name, look, self._retry_policy)

    def read_ahead_limits(self, num_sharers: int) -> ReadAheadLimits:
        """Shares half of the cache, which whole shards need not: all processes need the same."""
        allowed = self._cache.max_bytes // 2
        if self.reads_whole_shards:
            return ReadAheadLimits(_SAMPLES_AHEAD, MOST_OPEN_SHARDS, allowed)
        return ReadAheadLimits(_FILES_AHEAD, _FILES_AHEAD, allowed // num_sharers)

    def _key(self, shard_range: ShardRange) -> str:
        """Names content, not its place: the same shard in another store is the same file."""
        digest = self._manifest.shards[shard_range.shard].sha256
        return f"{digest}-{shard_range.start}-{shard_range.stop}"

    def _fetch(self, shard_range: ShardRange, stream: BufferedRandom) -> None:
        byte_range = None if shard_range.place is None else (shard_range.start, shard_range.stop)
        name = self._manifest.shards[shard_range.shard].name
        check = partial(self._check, shard_range)
        fetch_checked(self._store, name, byte_range, stream, check, self._retry_policy)

    def _check(self, shard_range: ShardRange, stream: BufferedRandom) -> str:
        """Says what is wrong with fetched bytes."""
        if stream.tell() != shard_range.num_bytes:
            return f"{stream.tell()} bytes arrive instead of {shard_range.num_bytes}"
        stream.seek(0)
        entry = self._manifest.shards[shard_range.shard]
        if shard_range.place is None:
            found, expected = hash_stream(stream), entry.sha256
        else:
            found, expected = zlib.crc32(stream.read()), int(entry.crc32[shard_range.place])
        if found == expected:
            return ""
        return (
            f"the bytes from {shard_range.start} to {shard_range.stop} have the checksum {found}, "
            f"index.json says {expected}; they are damaged, or it is that of another packing"
        )


def _compare_size(entry: ShardEntry, num_bytes: int) -> str:
    if num_bytes == entry.num_bytes:
        return ""
    return f"{entry.name} has {num_bytes} bytes instead of {entry.num_bytes}"


def open_cache(cache_dir: str | Path | None, cache_gb: float) -> ShardCache:
    """Names a bounded folder for what is fetched; it is made when it is first needed.

    Args:
        cache_dir: on a disk of this node; None: of this user, below the folder for temporary files.
        cache_gb: its bound.

    Raises:
        ConfigError: if that is no bound.
    """
    if not 0 < cache_gb < inf:
        raise ConfigError(
            f"a cache of {cache_gb} GB: expected a positive number for data.cache_gb or --cache-gb"
        )
    default = Path(tempfile.gettempdir()) / f"md2dist-cache-{os.getuid()}"
    return ShardCache(Path(cache_dir or default), int(cache_gb * 1e9))
