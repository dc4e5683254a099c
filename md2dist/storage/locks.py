"""Advisory locks on open files, held until every descriptor of the open file is closed.

A forked child keeps the lock of its parent. The operating system releases the locks of a process
that dies.
"""

import fcntl
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import IO

logger = logging.getLogger(__name__)


def lock(file: int | IO, *, shared: bool = False, required: bool = True) -> None:
    """Waits for a lock on an open file.

    Args:
        file: an open file, or its descriptor.
        shared: any number of processes may hold a shared lock, but only one an exclusive lock.
        required: if false, a file system without locks counts as locked, with a warning.

    Raises:
        OSError: if the file system has no locks, and one is required.
    """
    _flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, required)


def try_lock(file: int | IO, *, shared: bool = False, required: bool = True) -> bool:
    """Locks an open file, unless another process holds a conflicting lock.

    Args:
        file: an open file, or its descriptor.
        shared: as for `lock`.
        required: as for `lock`.

    Returns:
        Whether it is locked.

    Raises:
        OSError: if the file system has no locks, and one is required.
    """
    try:
        _flock(file, fcntl.LOCK_NB | (fcntl.LOCK_SH if shared else fcntl.LOCK_EX), required)
    except BlockingIOError:
        return False
    return True


def unlock(file: int | IO) -> None:
    """Releases a lock, also where a forked child has the file open."""
    fcntl.flock(file, fcntl.LOCK_UN)


def is_same_file(file: int | IO, path: Path) -> bool:
    """Returns whether a path still names an open file, which may be removed or replaced."""
    descriptor = file if isinstance(file, int) else file.fileno()
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def _flock(file: int | IO, operation: int, required: bool) -> None:
    try:
        fcntl.flock(file, operation)
    except BlockingIOError:
        raise
    except OSError as error:
        if required:
            raise
        name = getattr(file, "name", file)
        logger.warning("%s cannot be locked against other processes: %s", name, error.strerror)
