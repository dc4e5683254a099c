"""Limits of the machine: shared memory, open files, processes, disk; checked or explained."""

import errno
import os
import resource
import shutil
import sys
from pathlib import Path

from md2dist.errors import MachineLimitError

_SHARED_MEMORY = Path("/dev/shm")
_CGROUP = Path("/sys/fs/cgroup")
_CGROUP_MEMORY = (  # limit, usage, and entry of memory.stat, in versions 2 and 1 of cgroups
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)
_MB = 1e6
FULL_MEMORY = (
    "shared memory is full; set data.num_workers=0, or mount more of it at /dev/shm "
    "(docker run --shm-size)"
)
_FILES = "this process cannot open more files; raise the limit (ulimit -n)"
_PROCESSES = (
    "this user or container cannot start more processes and threads; raise the limit (ulimit -u, "
    "docker run --pids-limit), or set data.num_workers=0"
)
_ERRORS = {
    errno.EMFILE: _FILES,
    errno.ENFILE: "this machine cannot open more files; raise its limit (sysctl fs.file-max)",
    errno.EAGAIN: _PROCESSES,
}
_SIGNS = {  # in the messages of torch and C libraries, which have no exception types of their own
    "shared memory": FULL_MEMORY,
    "unable to mmap": FULL_MEMORY,
    "Too many open files": _FILES,
    "Resource temporarily unavailable": _PROCESSES,
    "can't start new thread": _PROCESSES,
}
_OUT_OF_MEMORY = ("out of memory", "ALLOC_FAILED", "can't allocate memory")  # of GPU or machine
_SMALLER_BATCH = (
    "memory is full; set a smaller optim.micro_batch_size (`md2dist bench step --find-batch` finds "
    "the largest) to train, or --batch-size to predict"
)


def explain_limit(error: BaseException) -> str | None:
    """Describes an exception in one line if it is the consequence of a limit of the machine."""
    if not isinstance(error, OSError | RuntimeError):
        return None
    if isinstance(error, BlockingIOError) and hasattr(error, "characters_written"):
        return None  # of a pipe or terminal that does not wait
    if isinstance(error, OSError) and error.errno is not None:
        return _ERRORS.get(error.errno)
    text = str(error)
    if is_out_of_memory(error):
        return f"{'the machine' if 'CPU' in text else 'the GPU'}'s {_SMALLER_BATCH}"
    return next((message for sign, message in _SIGNS.items() if sign in text), None)


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an exception says that the memory of the GPU or the machine is full."""
    is_torchs = isinstance(error, RuntimeError) and any(s in str(error) for s in _OUT_OF_MEMORY)
    return isinstance(error, MemoryError) or is_torchs


def check_shared_memory(num_bytes: int, purpose: str) -> None:
    """Checks that the shared memory of this node has room.

    Args:
        num_bytes: bytes that all processes of this node will allocate there.
        purpose: setting that determines it, for the message.

    Raises:
        MachineLimitError: if less is free.
    """
    if sys.platform != "linux":
        return
    try:
        status = os.statvfs(_SHARED_MEMORY)
        free = status.f_bavail * status.f_frsize
    except OSError:
        free = 0
    if free < num_bytes:
        raise MachineLimitError(
            f"shared memory for {purpose}: {free / _MB:.0f} MB free at {_SHARED_MEMORY}, "
            f"{num_bytes / _MB:.0f} MB needed; set data.num_workers=0, or mount more of it "
            "(docker run --shm-size)"
        )


def allow_open_files(num_more: int, purpose: str) -> None:
    """Lets this process and its children open more files, by raising its limit where it may.

    Args:
        num_more: number of files beyond those that are open now.
        purpose: setting that determines it, for the message.

    Raises:
        MachineLimitError: if the limit that cannot be raised is lower.
    """
    needed = len(list(Path("/dev/fd").iterdir())) + num_more
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise MachineLimitError(
                f"open files for {purpose}: a process may open {hard}, {needed} needed; raise the "
                "limit (ulimit -n), or set data.num_workers=0"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def check_processes(num_more: int, purpose: str) -> None:
    """Checks that this user and this container may start more processes and threads.

    Args:
        num_more: number of them that all processes of this node will start.
        purpose: setting that determines it, for the message.

    Raises:
        MachineLimitError: if fewer are left.
    """
    left = min(_left_of_user(), _left_of_container())
    if left < num_more:
        raise MachineLimitError(
            f"processes for {purpose}: {left:.0f} processes and threads left for this user or "
            f"container, {num_more} needed; raise the limit (ulimit -u, docker run --pids-limit), "
            "or set data.num_workers=0"
        )


def check_disk(folder: Path, num_bytes: int, purpose: str) -> None:
    """Checks that a disk has room.

    Args:
        folder: folder on it, which need not exist yet.
        num_bytes: bytes that will be written.
        purpose: what they are, for the message.

    Raises:
        MachineLimitError: if less is free.
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < num_bytes:
        raise MachineLimitError(
            f"disk space for {purpose}: {free / _MB:,.0f} MB free at {place}, "
            f"{num_bytes / _MB:,.0f} MB needed; free some, or put {folder} on another disk"
        )


def free_memory() -> int:
    """Returns the bytes of memory that this machine, or its container, has left."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    values = dict(line.split(":") for line in lines)
    free = int(values["MemAvailable"].split()[0]) * 1024
    return int(min(free, *(_left_of_memory(*names) for names in _CGROUP_MEMORY)))


def _left_of_memory(limit: str, used: str, cached: str) -> float:
    """Returns the bytes that a cgroup has left, without the files that it gives up first."""
    try:
        lines = (_CGROUP / limit).with_name("memory.stat").read_text().splitlines()
        bytes_cached = int(dict(line.split() for line in lines)[cached])
        bytes_used = int((_CGROUP / used).read_text()) - bytes_cached
        return max(int((_CGROUP / limit).read_text()) - bytes_used, 0)
    except (OSError, ValueError, KeyError):  # no such cgroup, or "max"
        return float("inf")


def _left_of_user() -> float:
    limit, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if limit == resource.RLIM_INFINITY or os.geteuid() == 0:  # root is exempt
        return float("inf")
    count = 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if entry.stat().st_uid == os.getuid():
                count += len(list((entry / "task").iterdir()))
        except OSError:  # has ended
            continue
    return max(0, limit - count)


def _left_of_container() -> float:
    return min(_left_of_processes(folder) for folder in (_CGROUP, _CGROUP / "pids"))  # v2, v1


def _left_of_processes(cgroup: Path) -> float:
    try:
        limit, current = ((cgroup / f"pids.{name}").read_text() for name in ("max", "current"))
        return max(0, int(limit) - int(current))
    except (OSError, ValueError):  # no cgroup, or "max"
        return float("inf")
