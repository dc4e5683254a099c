"""make_shards.py as users start it, on a small KITTI tree."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "shard_tools" / "make_shards.py"
SMALL = ["--height", "32", "--width", "64"]


def command(*options: object) -> list[str]:
    """The words of a command line."""
    return [sys.executable, str(SCRIPT), *map(str, options)]


def make_shards(*options: object) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    return subprocess.run(command(*options), capture_output=True, text=True, timeout=120)


def request(folder: Path, *options: object) -> list[object]:
    """Options that pack folder/split.txt from folder/kitti into folder/out; later ones win."""
    paths = ["--kitti-root", folder / "kitti", "--split", folder / "split.txt"]
    return [*paths, "--output", folder / "out", *SMALL, *options]


def finished_names(folder: Path) -> set[str]:
    """What has a final name in a folder."""
    return {path.name for path in folder.glob("[!.]*")}
