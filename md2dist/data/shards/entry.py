"""Manifest entry of one shard: size, checksums, and byte offsets of its samples."""

import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from md2dist.storage.hashing import hash_stream


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
    def from_json(cls, stored: dict[str, Any]) -> "ShardEntry":
        """Restores an entry from its stored form.

        Raises:
            ValueError: if the number of offsets or checksums does not match the count, or the name
                leads out of the folder.
            TypeError: if fields are missing or unknown.
            KeyError: if offsets or checksums are missing.
        """
        offsets = np.array(stored["offsets"], np.int64)
        checksums = np.frombuffer(bytes.fromhex(stored["crc32"]), ">u4").astype(np.uint32)
        entry = cls(**{**stored, "offsets": offsets, "crc32": checksums})
        if offsets.shape != (entry.count + 1,) or checksums.shape != (entry.count,):
            raise ValueError(
                f"{entry.name} has {entry.count} samples, but {offsets.size} offsets and "
                f"{checksums.size} checksums; expected {entry.count + 1} and {entry.count}"
            )
        if Path(entry.name).name != entry.name:
            raise ValueError(f"{entry.name!r} is not a file name")
        return entry


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
