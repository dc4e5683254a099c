"""Bounded cache of fetched files, shared by all processes of a node.

File locks coordinate the processes: a process holds an exclusive lock on a file while it fetches
it, and a shared lock on a file while it has it open. The locks of a process that dies are released.

A fetched file is renamed once it is complete, but not flushed to disk: its readers check its bytes,
and a file that a crash has damaged is fetched again.
"""

import errno
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedRandom
from pathlib import Path
from typing import TextIO

from md2dist.errors import ShardError
from md2dist.storage.cache_folder import TAG_NAME, make_cache_folder
from md2dist.storage.locks import is_same_file, lock, try_lock, unlock
from md2dist.storage.retries import RetryPolicy, retry

logger = logging.getLogger(__name__)

_PART = ".part"  # suffix of a file that is not complete yet
_LEDGER = ".ledger"  # the file that counts the bytes of all others
_LEDGER_DIGITS = 18
_SLACK = 0.05  # of the limit, freed in one go, since making room lists every file
_LONG_UNUSED = 86400.0  # s
_WHILE_REMOVED = RetryPolicy(num_tries=5, first_wait=0.01)  # e.g. by `rm -r`
_OF_REMOVAL = (FileNotFoundError, FileExistsError)  # the second is raised by `mkdir`


class OpenFile:
    """An open file, closed with the last reference to it."""

    def __init__(self, path: Path, descriptor: int):
        self.path = path
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


class ShardCache:
    """Cache of files by key, each fetched once per node and kept while there is room.

    Args:
        folder: on a disk of this node, for this cache alone; created if missing.
        max_bytes: limit for all files together, which this object enforces when it adds a file. It
            is exceeded, with a warning, only while the files in use are larger.
    """

    def __init__(self, folder: Path, max_bytes: int):
        self.folder = folder
        self.max_bytes = max_bytes

    def open(self, key: str, num_bytes: int, fill: Callable[[BufferedRandom], None]) -> OpenFile:
        """Opens a file, which stays in the cache while it is open.

        If it is not cached, one process fetches it while others wait. The folder may be removed at
        any time; the cache then starts again, empty.

        Args:
            key: a file name that does not start with a dot; it identifies the content.
            num_bytes: size of the file.
            fill: writes these bytes; if it raises, nothing is left in the cache.

        Raises:
            ShardError: if the folder cannot be written, or other files fill its disk.
            ConfigError: if it holds files that are not of a cache.
        """
        path = self.folder / key

        def attempt() -> OpenFile:
            make_cache_folder(self.folder)
            while True:
                if file := _open_whole(path) or self._fill(path, num_bytes, fill):
                    return file

        try:
            return retry(attempt, lambda e: isinstance(e, _OF_REMOVAL), _WHILE_REMOVED)
        except OSError as error:
            raise ShardError(
                f"the cache in {self.folder} cannot be written ({error.strerror}); make room, "
                "lower data.cache_gb or --cache-gb, or let data.cache_dir or --cache-dir name a "
                "folder on another disk"
            ) from None

    def discard(self, file: OpenFile) -> None:
        """Removes a damaged file, unless it has been replaced; open descriptors stay readable."""
        if is_same_file(file.descriptor, file.path):
            logger.warning("%s is damaged; it is fetched again", file.path)
            file.path.unlink(missing_ok=True)

    def _fill(
        self, path: Path, num_bytes: int, fill: Callable[[BufferedRandom], None]
    ) -> OpenFile | None:
        """Fetches a file; None, after a wait, if another process has been fetching it."""
        part = path.with_name(path.name + _PART)
        file = OpenFile(path, _open_entry(part, os.O_RDWR | os.O_CREAT))
        if not try_lock(file.descriptor):
            # Shared, since its writer keeps using it: granted when it is complete, or its writer
            # has died.
            lock(file.descriptor, shared=True)
            return None
        if not is_same_file(file.descriptor, part):
            return None
        try:
            if path.exists():
                part.unlink()
                return None
            self._reserve(file, num_bytes)
            with open(file.descriptor, "r+b", closefd=False) as stream:
                fill(stream)
            if not is_same_file(file.descriptor, part):  # removed, perhaps replaced
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            part.replace(path)
        except BaseException:
            if is_same_file(file.descriptor, part):
                part.unlink(missing_ok=True)
            raise
        lock(file.descriptor, shared=True)
        return file

    def _reserve(self, file: OpenFile, num_bytes: int) -> None:
        """Reserves room for a file, on the disk too, to detect a full disk before writing."""
        with self._locked_ledger() as ledger:
            # After a crash or a removed file, the count may be too high, but it is never too low.
            counted = ledger.read(_LEDGER_DIGITS + 1)
            is_valid = counted.isdecimal() and len(counted) <= _LEDGER_DIGITS
            total = int(counted) if is_valid else self._make_room(self.max_bytes)
            if total + num_bytes > self.max_bytes:
                total = self._make_room(int(self.max_bytes * (1 - _SLACK)) - num_bytes)
                if total + num_bytes > self.max_bytes:
                    logger.warning(
                        "%s: the files in use, %.1f GB, exceed data.cache_gb",
                        self.folder,
                        (total + num_bytes) / 1e9,
                    )
            while not _allocate(file, num_bytes):
                before = total
                total = self._make_room(total - max(num_bytes, int(total * _SLACK)))
                if total >= before:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            ledger.seek(0)
            ledger.truncate()
            ledger.write(str(total + num_bytes))

    @contextmanager
    def _locked_ledger(self) -> Iterator[TextIO]:
        descriptor = _open_entry(self.folder / _LEDGER, os.O_RDWR | os.O_CREAT)
        with os.fdopen(descriptor, "r+", errors="replace") as ledger:
            lock(ledger)
            try:
                ledger.seek(0)
                yield ledger
                ledger.flush()
            finally:  # closing it is not enough: a process forked meanwhile may have it open
                unlock(ledger)

    def _make_room(self, max_bytes: int) -> int:
        """Removes unused files until `max_bytes` are left; returns the bytes that are left."""
        files = []
        for entry in os.scandir(self.folder):
            if not entry.name.startswith(".") and entry.name != TAG_NAME:
                with suppress(FileNotFoundError):  # a file is completed without the ledger
                    files.append((entry.path, entry.stat(follow_symlinks=False)))
        total = sum(stat.st_size for path, stat in files)
        for path, stat in sorted(files, key=_worth):
            if total <= max_bytes:
                break
            if _remove_unused(Path(path)):
                total -= stat.st_size
        return total


def _worth(file: tuple[str, os.stat_result]) -> tuple[float, float]:
    """Sort key of the eviction order.

    First come the parts that dead processes left, then files not used for a day, the oldest first.
    Of the others, the most recently used comes first: each epoch reads every sample once, in
    another order, so its next use is the farthest. Evicting the least recently used would remove
    files shortly before their next use.
    """
    path, stat = file
    if path.endswith(_PART):
        return 0, 0
    return (1, stat.st_mtime) if _is_long_unused(stat) else (2, -stat.st_mtime)


def _is_long_unused(stat: os.stat_result) -> bool:
    return time.time() - stat.st_mtime > _LONG_UNUSED


def _open_entry(path: Path, flags: int) -> int:
    """Opens a file of the cache; removes a link in its place, which the cache has not made."""
    try:
        return os.open(path, flags | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        path.unlink(missing_ok=True)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None


def _open_whole(path: Path) -> OpenFile | None:
    try:
        file = OpenFile(path, _open_entry(path, os.O_RDONLY))
    except FileNotFoundError:
        return None
    lock(file.descriptor, shared=True)
    if not is_same_file(file.descriptor, path):  # evicted after it was opened
        return None
    os.utime(file.descriptor)
    return file


def _remove_unused(path: Path) -> bool:
    with suppress(FileNotFoundError):
        file = OpenFile(path, _open_entry(path, os.O_RDONLY))
        if not try_lock(file.descriptor):
            return False
        if is_same_file(file.descriptor, path):
            path.unlink()
    return True


def _allocate(file: OpenFile, num_bytes: int) -> bool:
    """Allocates disk space for a file; False if there is not enough."""
    try:
        os.posix_fallocate(file.descriptor, 0, num_bytes)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    return True
