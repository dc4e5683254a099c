"""A bounded folder of fetched files, whole or absent, shared by all processes of a node.

Locks of the operating system do the sharing: a file that is being fetched is locked by its process,
a file in use by all that have it open, and whoever dies lets go.
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
from md2dist.storage.locks import is_same_file, lock, try_lock, unlock
from md2dist.storage.retries import RetryPolicy, retry

logger = logging.getLogger(__name__)

_PART = ".part"  # ends the name of a file that is not whole yet
_LEDGER = ".ledger"  # the file that counts the bytes of the others
_SLACK = 0.05  # of the bound, made free at once, since making room looks at every file
_LONG_UNUSED = 86400.0  # s
_WHILE_REMOVED = RetryPolicy(num_tries=5, first_wait=0.01)  # by somebody who wants the room at once
_OF_REMOVAL = (FileNotFoundError, FileExistsError)  # the other where it goes in a `mkdir`


class OpenFile:
    """An open file, closed with the last reference to it."""

    def __init__(self, path: Path, descriptor: int):
        self.path = path
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


class ShardCache:
    """Files by key, fetched once per node and kept while there is room.

    Args:
        folder: made where it does not exist; on a disk of this node.
        max_bytes: limit for all files together, which this object enforces when it adds a file. It
            is exceeded, with a warning, only while the files in use are larger.
    """

    def __init__(self, folder: Path, max_bytes: int):
        self.folder = folder
        self.max_bytes = max_bytes

    def open(self, key: str, num_bytes: int, fill: Callable[[BufferedRandom], None]) -> OpenFile:
        """Opens a file, which stays in the cache while it is open.

        Where it is not there, it is filled, by one process while others wait for it. The folder may
        be removed at any time; then it begins again, empty.

        Args:
            key: a file name without a dot in front; the same bytes for everybody.
            num_bytes: of the file.
            fill: writes these bytes, or raises; then nothing is left.

        Raises:
            ShardError: if the folder cannot be written, or its disk is full of other things.
        """
        path = self.folder / key

        def attempt() -> OpenFile:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
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
        """Throws a damaged file out, unless a new one has its place; who has it open reads on."""
        if is_same_file(file.descriptor, file.path):
            logger.warning("%s has gone bad; it is fetched again", file.path)
            file.path.unlink(missing_ok=True)

    def _fill(
        self, path: Path, num_bytes: int, fill: Callable[[BufferedRandom], None]
    ) -> OpenFile | None:
        """Makes a file; None, after a while, where another process does it."""
        part = path.with_name(path.name + _PART)
        file = OpenFile(path, os.open(part, os.O_RDWR | os.O_CREAT, 0o600))
        if not try_lock(file.descriptor):
            # Shared, since its maker goes on using it: ends when the file is whole, or its maker.
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
            if not is_same_file(file.descriptor, part):  # removed; another may lie there
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            part.replace(path)
        except BaseException:
            if is_same_file(file.descriptor, part):
                part.unlink(missing_ok=True)
            raise
        lock(file.descriptor, shared=True)
        return file

    def _reserve(self, file: OpenFile, num_bytes: int) -> None:
        """Takes room for a file, on the disk too: better a full disk now than in the middle."""
        with self._locked_ledger() as ledger:
            # It may count too much, where somebody died or threw a file out, but never too little.
            counted = ledger.read()
            total = int(counted) if counted else self._make_room(self.max_bytes)
            if total + num_bytes > self.max_bytes:
                total = self._make_room(int(self.max_bytes * (1 - _SLACK)) - num_bytes)
                if total + num_bytes > self.max_bytes:
                    logger.warning(
                        "%s: the files in use, %.1f GB, are more than data.cache_gb allows",
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
        with (self.folder / _LEDGER).open("a+") as ledger:
            lock(ledger)
            try:
                ledger.seek(0)
                yield ledger
                ledger.flush()
            finally:  # closing it does not suffice while a process forked meanwhile has it open
                unlock(ledger)

    def _make_room(self, max_bytes: int) -> int:
        """Throws out files that nobody uses until `max_bytes` are left; returns what is left."""
        files = []
        for entry in os.scandir(self.folder):
            if not entry.name.startswith("."):
                with suppress(FileNotFoundError):  # another process ends a file without the ledger
                    files.append((entry.path, entry.stat()))
        total = sum(stat.st_size for path, stat in files)
        for path, stat in sorted(files, key=_worth):
            if total <= max_bytes:
                break
            if _remove_unused(Path(path)):
                total -= stat.st_size
        return total


def _worth(file: tuple[str, os.stat_result]) -> tuple[float, float]:
    """Orders files by what they are worth keeping.

    Least of all what a dead process left, then what was not used for a day, the oldest first. Of
    the others the one used last: each epoch needs every sample once, in another order, so this
    one's next turn is the farthest, while throwing out the oldest would empty the cache just before
    its files are needed again.
    """
    path, stat = file
    if path.endswith(_PART):
        return 0, 0
    return (1, stat.st_mtime) if _is_long_unused(stat) else (2, -stat.st_mtime)


def _is_long_unused(stat: os.stat_result) -> bool:
    return time.time() - stat.st_mtime > _LONG_UNUSED


def _open_whole(path: Path) -> OpenFile | None:
    try:
        file = OpenFile(path, os.open(path, os.O_RDONLY))
    except FileNotFoundError:
        return None
    lock(file.descriptor, shared=True)
    if not is_same_file(file.descriptor, path):  # thrown out in this moment
        return None
    os.utime(file.descriptor)
    return file


def _remove_unused(path: Path) -> bool:
    with suppress(FileNotFoundError):
        file = OpenFile(path, os.open(path, os.O_RDONLY))
        if not try_lock(file.descriptor):
            return False
        if is_same_file(file.descriptor, path):
            path.unlink()
    return True


def _allocate(file: OpenFile, num_bytes: int) -> bool:
    """Takes room on the disk; False where there is not enough."""
    try:
        os.posix_fallocate(file.descriptor, 0, num_bytes)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    return True
