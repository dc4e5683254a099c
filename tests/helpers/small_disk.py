"""A disk of few bytes, for one command and its children only."""

import shutil
import subprocess
from pathlib import Path

import pytest

needs_tiny_disk = pytest.mark.skipif(
    not shutil.which("unshare"), reason="only Linux mounts for one process"
)


def run_on_tiny_disk(
    folder: Path, size: str, script: str, *words: object
) -> subprocess.CompletedProcess[str]:
    """Runs a shell script, whose arguments are the words, with a new disk mounted on a folder."""
    mount = f"mount -t tmpfs -o size={size} none {folder} && {script}"
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, "sh", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
    )
