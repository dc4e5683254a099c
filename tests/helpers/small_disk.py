"""Small disk that exists only for one command and its children."""

import shutil
import subprocess
from pathlib import Path

import pytest

needs_small_disk = pytest.mark.skipif(
    not shutil.which("unshare"), reason="mounting for one process needs unshare (Linux)"
)


def run_on_small_disk(
    folder: str | Path, size: str, script: str, *words: object
) -> subprocess.CompletedProcess[str]:
    """Runs a shell script with arguments `words` and a new disk mounted on a folder."""
    mount = f"mount -t tmpfs -o size={size} none {folder} && {script}"
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, "sh", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
    )
