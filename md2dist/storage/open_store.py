"""From an address to the store that it names; a folder is the simplest one."""

import errno
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from md2dist.errors import ShardError
from md2dist.storage.http_store import HttpStore
from md2dist.storage.pipe_store import PipeStore
from md2dist.storage.retries import INTERACTIVE
from md2dist.storage.s3_store import S3Store
from md2dist.storage.store import CHUNK, ByteRange, Store, StoreError, fetch_bytes

_KINDS = {"http://": HttpStore, "https://": HttpStore, "s3://": S3Store, "pipe:": PipeStore}
_LASTING = (errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.EISDIR)  # others a network may mend


def is_url(place: str | Path) -> bool:
    """Whether a place is in a store, and not a folder of this machine."""
    return str(place).startswith(tuple(_KINDS)) or "://" in str(place)


def open_store(place: str | Path, timeout: float) -> Store:
    """Gives access to a store; nothing is read yet.

    Args:
        place: a folder; an address ``http://...``, ``https://...`` or ``s3://bucket/prefix``; or
            ``pipe:COMMAND``, a command that writes the file whose name stands in place of ``{}``.
        timeout: s without a byte before a connection counts as broken.

    Raises:
        ShardError: if the place is none of these.
    """
    for prefix, kind in _KINDS.items():
        if str(place).startswith(prefix):
            return kind(str(place), timeout)
    if is_url(place):
        raise ShardError(f"{place} is no place of shards; expected a folder, {', '.join(_KINDS)}")
    return FolderStore(Path(place))


def map_file(place: str | Path, name: str) -> memoryview:
    """Gives the bytes of a file; those in a folder are read only where they are looked at.

    Raises:
        OSError: if a folder does not have it.
        ShardError: if it cannot be had from a store.
    """
    if is_url(place):
        return memoryview(fetch_bytes(open_store(place, INTERACTIVE.timeout), name, INTERACTIVE))
    with (Path(place) / name).open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


class FolderStore:
    """A folder of this machine or of a network file system."""

    def __init__(self, folder: Path):
        self.url = str(folder)

    def read(self, name: str, byte_range: ByteRange | None = None) -> Iterator[bytes]:
        """Yields the bytes of a file, or of a part of it."""
        start, stop = byte_range or (0, self.size(name))
        with _told_as_store_errors(), (Path(self.url) / name).open("rb") as stream:
            stream.seek(start)
            while piece := stream.read(min(stop - stream.tell(), CHUNK)):
                yield piece

    def size(self, name: str) -> int:
        """Returns the bytes of a file."""
        with _told_as_store_errors():
            return (Path(self.url) / name).stat().st_size

    def has_ranges(self, name: str) -> bool:
        """Tells that a file can be read from any byte on."""
        return True


@contextmanager
def _told_as_store_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            error.strerror,
            is_transient=error.errno not in _LASTING,
            is_missing=error.errno == errno.ENOENT,
        ) from None
