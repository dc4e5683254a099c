"""Fingerprints of the source files of packed samples."""

import hashlib
from typing import NamedTuple

from md2dist.data.kitti.tree import SourceTree
from md2dist.errors import KittiDataError

_SMALL = 1 << 14  # bytes; above calibrations, which people edit, and below images


class Fingerprint(NamedTuple):
    """Digest and size of a file's contents, the same in a folder and in an archive."""

    sha256: str
    num_bytes: int


def take_fingerprint(content: bytes) -> Fingerprint:
    """Computes the fingerprint of a file's contents."""
    return Fingerprint(hashlib.sha256(content).hexdigest(), len(content))


def is_unchanged(tree: SourceTree, name: str, source: Fingerprint) -> bool:
    """Returns whether a file has the same size and, if it is small, the same contents."""
    if tree.size(name) != source.num_bytes:
        return False
    try:
        return source.num_bytes > _SMALL or take_fingerprint(tree.read(name)) == source
    except KittiDataError:
        return False
