"""Properties of running processes, read from /proc."""

import errno
import os
from pathlib import Path


def read_process(pid: int, name: str) -> bytes:
    """Returns a file of a process's folder in /proc; empty if it has ended or cannot be read.

    Raises:
        OSError: if this process has too many open files, which says nothing about the other one.
    """
    try:
        return (Path("/proc") / str(pid) / name).read_bytes()
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        return b""


def parent_of(pid: int) -> int:
    """Returns the parent of a process; 0 if that process has ended."""
    return int((_fields(pid) or [0, 0])[1])


def identify_process(pid: int) -> str:
    """Returns a name that no other process of this machine has had; empty if it has ended."""
    fields = _fields(pid)
    return f"{pid} started at {int(fields[19])}" if fields else ""


def identify_machine() -> str:
    """Returns a name of this machine, or of this container on it, until its next start."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    try:
        return f"{boot.read_text().strip()}-{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:  # not Linux
        return os.uname().nodename


def _fields(pid: int) -> list[bytes]:
    """Returns the fields of /proc/PID/stat after the name, which may contain any characters."""
    return read_process(pid, "stat").rpartition(b")")[2].split()
