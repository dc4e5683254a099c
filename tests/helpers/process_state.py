"""Whether a process that a test has started still runs."""

from pathlib import Path


def is_running(pid: int) -> bool:
    """Looks in /proc; a zombie, which nobody has waited for yet, has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # the second: it ended while being read
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
