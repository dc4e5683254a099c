"""The camera's and the scanner's files behind packed samples, as they were when they were read."""

import hashlib
from typing import NamedTuple

from md2dist.data.kitti.tree import SourceTree
from md2dist.errors import KittiDataError

_SMALL = 1 << 14  # bytes: calibrations, which people edit, and no images


class Fingerprint(NamedTuple):
    """What a file held, which is the same in a folder and in an archive."""

    sha256: str
    num_bytes: int


def take_fingerprint(content: bytes) -> Fingerprint:
    """Says what a file holds."""
    return Fingerprint(hashlib.sha256(content).hexdigest(), len(content))


def is_unchanged(tree: SourceTree, name: str, source: Fingerprint) -> bool:
    """Whether a file still has its size, and a small one its contents; large ones are not read."""
    if tree.size(name) != source.num_bytes:
        return False
    try:
        return source.num_bytes > _SMALL or take_fingerprint(tree.read(name)) == source
    except KittiDataError:
        return False
