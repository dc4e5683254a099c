"""Version of the code: the commit of the checkout that the package is in."""

import subprocess
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_TIMEOUT_S = 10


def find_commit(root: Path = _ROOT) -> str | None:
    """Returns the commit of a checkout, with `-dirty` if its files differ from it.

    Args:
        root: the checkout's folder.

    Returns:
        None if the folder is no checkout of git, or git does not answer.
    """
    if not (root / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command,
            cwd=root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            text=True,
            timeout=_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
