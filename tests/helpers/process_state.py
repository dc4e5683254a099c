"""State of a process that a test has started."""

from pathlib import Path


def is_running(pid: int) -> bool:
    """Returns whether a process runs, according to /proc; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # the second: it exited during the read
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
