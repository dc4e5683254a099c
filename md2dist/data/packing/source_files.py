"""Fingerprints of source files at the time they were read."""

import hashlib
from collections.abc import Mapping
from functools import cache, partial
from typing import NamedTuple

from md2dist.data.packing.source import SourceFiles
from md2dist.errors import KittiDataError


class Fingerprint(NamedTuple):
    """Digest and size of a file's content, and the stamp of the file that held it."""

    sha256: str
    num_bytes: int
    stamp: str = ""  # of the source; another one does not mean another content


def read_source(files: SourceFiles, name: str) -> tuple[bytes, Fingerprint]:
    """Reads a file, and takes its fingerprint.

    Raises:
        KittiDataError: if the file is missing or damaged.
        KittiAccessError: if access to it is denied.
    """
    # Before reading: a file that is replaced meanwhile then has another stamp.
    stamp = files.stamp(name) or ""
    content = files.read(name)
    return content, Fingerprint(hashlib.sha256(content).hexdigest(), len(content), stamp)


def digest_sources(sources: Mapping[str, str]) -> str:
    """Returns the sha256 over the sha256 of files by their names, as the manifest holds it."""
    listing = "".join(f"{sources[name]}  {name}\n" for name in sorted(sources))
    return hashlib.sha256(listing.encode()).hexdigest()


def is_unchanged(files: SourceFiles, name: str, source: Fingerprint) -> bool:
    """Whether a file has the content that its fingerprint was taken of.

    The content is read only if the stamp differs, as it does for a copy or in an archive.
    """
    stamp = files.stamp(name)
    if stamp is None or stamp == source.stamp:
        return stamp is not None
    try:
        return files.size(name) == source.num_bytes and (
            read_source(files, name)[1].sha256 == source.sha256
        )
    except KittiDataError:
        return False


class ChangeFinder:
    """Finds files that have changed; each is checked once, though many shards show it.

    Args:
        files: the source files.
    """

    def __init__(self, files: SourceFiles):
        self._is_unchanged = cache(partial(is_unchanged, files))

    def find(self, sources: Mapping[str, Fingerprint]) -> str | None:
        """Returns the name of a file that is changed or missing; None if there is none.

        Args:
            sources: fingerprints of files, by their names in the source.

        Raises:
            KittiAccessError: if access to a file is denied.
        """
        return next((name for name in sources if not self._is_unchanged(name, sources[name])), None)
