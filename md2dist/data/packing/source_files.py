"""Fingerprints of source files at the time they were read."""

import hashlib
from typing import NamedTuple

from md2dist.data.kitti.tree import SourceTree
from md2dist.errors import KittiDataError

_SMALL = 1 << 14  # bytes: calibrations, which users edit, but no images


class Fingerprint(NamedTuple):
    """Digest and size of a file's content; the same in a folder and in an archive."""

    sha256: str
    num_bytes: int


def take_fingerprint(content: bytes) -> Fingerprint:
    """Returns the fingerprint of a file's content."""
    return Fingerprint(hashlib.sha256(content).hexdigest(), len(content))


def is_unchanged(tree: SourceTree, name: str, source: Fingerprint) -> bool:
    """Whether a file has the same size and, if it is small, the same content."""
    if tree.size(name) != source.num_bytes:
        return False
    try:
        return source.num_bytes > _SMALL or take_fingerprint(tree.read(name)) == source
    except KittiDataError:
        return False
