"""Opening a store by its address, and the store of a local folder."""

import errno
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from md2dist.errors import ShardError
from md2dist.storage.addresses import public_address
from md2dist.storage.bounded import open_regular
from md2dist.storage.http_store import HttpStore
from md2dist.storage.pipe_store import PipeStore
from md2dist.storage.retries import INTERACTIVE
from md2dist.storage.s3_store import S3Store
from md2dist.storage.store import CHUNK, ByteRange, Store, StoreError, fetch_bytes

_KINDS = {"http://": HttpStore, "https://": HttpStore, "s3://": S3Store, "pipe:": PipeStore}
# Other errors may be transient on a network file system.
_LASTING = (errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.EISDIR, errno.EINVAL)


def is_url(place: str | Path) -> bool:
    """Returns whether a location is a URL, and not a local folder."""
    return str(place).startswith(tuple(_KINDS)) or "://" in str(place)


def open_store(place: str | Path, timeout: float) -> Store:
    """Opens a store; nothing is read yet.

    Args:
        place: a folder; a URL ``http://...``, ``https://...`` or ``s3://bucket/prefix``; or
            ``pipe:COMMAND``, a command that writes a file to its standard output, with ``{}`` for
            the name of the file.
        timeout: s without a byte before a connection counts as broken.

    Raises:
        ShardError: if the location is none of these.
    """
    for prefix, kind in _KINDS.items():
        if str(place).startswith(prefix):
            return kind(str(place), timeout)
    if is_url(place):
        raise ShardError(
            f"{public_address(str(place))} has an unknown scheme; expected a folder, "
            f"{', '.join(_KINDS)}"
        )
    return FolderStore(Path(place))


def map_file(place: str | Path, name: str, num_bytes: int) -> memoryview:
    """Returns the bytes of a file; a local file is mapped, and read on access.

    Args:
        place: as for `open_store`.
        name: of the file.
        num_bytes: its expected size; more are not fetched from a store.

    Raises:
        OSError: if a local file cannot be read.
        ShardError: if it cannot be fetched from a store.
    """
    if is_url(place):
        store = open_store(place, INTERACTIVE.timeout)
        return memoryview(fetch_bytes(store, name, INTERACTIVE, max_bytes=num_bytes))
    with open_regular(Path(place) / name) as file:
        if not os.fstat(file.fileno()).st_size:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


class FolderStore:
    """Store in a folder of this machine or of a network file system."""

    def __init__(self, folder: Path):
        self.url = str(folder)

    def read(self, name: str, byte_range: ByteRange | None = None) -> Iterator[bytes]:
        """Yields the bytes of a file, or of a part of it."""
        start, stop = byte_range or (0, self.size(name))
        with _raising_store_errors(), open_regular(Path(self.url) / name) as stream:
            stream.seek(start)
            while piece := stream.read(min(stop - stream.tell(), CHUNK)):
                yield piece

    def size(self, name: str) -> int:
        """Returns the size of a file in bytes."""
        with _raising_store_errors():
            return (Path(self.url) / name).stat().st_size

    def has_ranges(self, name: str) -> bool:
        """Returns True: any byte range of a file can be read."""
        return True


@contextmanager
def _raising_store_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            error.strerror,
            is_transient=error.errno not in _LASTING,
            is_missing=error.errno == errno.ENOENT,
        ) from None
