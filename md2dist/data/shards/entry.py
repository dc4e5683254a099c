"""Manifest entry of one shard: size, checksums, and byte offsets of its samples."""

import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from md2dist.storage.hashing import hash_stream
from md2dist.storage.typed_json import Count, Digest, FileName, Items

_MIN_SAMPLE_BYTES = 1024  # a header and the metadata, in blocks of 512 bytes
_MAX_SHARD_BYTES = 1 << 36


@dataclass(frozen=True)
class StoredEntry:
    """JSON form of a `ShardEntry`."""

    name: FileName
    num_bytes: Annotated[int, Field(ge=0, le=_MAX_SHARD_BYTES)]
    sha256: Digest
    count: Count
    offsets: Items[Count]  # replaced by its array
    crc32: Annotated[str, Field(pattern="^[0-9a-fA-F]*$")]  # eight digits per sample

    def __post_init__(self) -> None:
        offsets = np.array(self.offsets, np.int64)  # at once: a list takes five times as much
        object.__setattr__(self, "offsets", offsets)
        self._check_numbers(offsets)

    def _check_numbers(self, offsets: np.ndarray) -> None:
        """Checks offsets (count + 1,) against the other fields."""
        if (len(offsets), len(self.crc32)) != (self.count + 1, 8 * self.count):
            raise ValueError(
                f"{self.name} has {self.count} samples, but {len(offsets)} offsets and "
                f"{len(self.crc32) / 8:g} checksums; expected {self.count + 1} and {self.count}"
            )
        if (np.diff(offsets) < _MIN_SAMPLE_BYTES).any() or offsets[-1] > self.num_bytes:
            raise ValueError(
                f"the offsets of {self.name} do not ascend by at least {_MIN_SAMPLE_BYTES} bytes "
                f"to at most its {self.num_bytes}"
            )


@dataclass(frozen=True)
class ShardEntry:
    """One tar file; sample i occupies its bytes ``[offsets[i], offsets[i + 1])``."""

    name: str
    num_bytes: int
    sha256: str
    count: int
    offsets: np.ndarray = field(compare=False)  # (count + 1,) int64, bytes; sha256 covers it
    crc32: np.ndarray = field(compare=False)  # (count,) uint32, of each sample's bytes

    def as_json(self) -> dict[str, Any]:
        """Returns the stored form of the entry, with eight hexadecimal digits per checksum."""
        checksums = self.crc32.astype(">u4").tobytes().hex()
        return {**vars(self), "offsets": self.offsets.tolist(), "crc32": checksums}

    @classmethod
    def from_stored(cls, stored: StoredEntry) -> "ShardEntry":
        """Restores an entry from its stored form, which has been checked."""
        checksums = np.frombuffer(bytes.fromhex(stored.crc32), ">u4").astype(np.uint32)
        return cls(**{**vars(stored), "offsets": np.asarray(stored.offsets), "crc32": checksums})


def describe_shard(path: Path, offsets: np.ndarray) -> ShardEntry:
    """Returns the manifest entry of a shard.

    Args:
        path: the shard.
        offsets: (count + 1,) first byte of each sample, then the end of the last one.

    Raises:
        OSError: if the file cannot be read.
    """
    with path.open("rb") as stream:
        sha256 = hash_stream(stream)
        num_bytes = stream.tell()
        stream.seek(int(offsets[0]))
        checksums = [zlib.crc32(stream.read(size)) for size in np.diff(offsets).tolist()]
    return ShardEntry(
        path.name,
        num_bytes,
        sha256,
        len(checksums),
        np.asarray(offsets, np.int64),
        np.array(checksums, np.uint32),
    )
