"""Packs small KITTI trees, by function or by make_shards.py, and reads what was packed."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from md2dist.data.kitti.source import KittiSource
from md2dist.data.kitti.splits import SkippedLine, SplitLine
from md2dist.data.kitti.tree import SourceTree
from md2dist.data.packing.merge import merge_shards
from md2dist.data.packing.plan import Plan, plan_samples
from md2dist.data.packing.working_names import FINISHED_NAME, SKIPPED_NAME
from md2dist.data.packing.writer import pack_shards
from md2dist.data.shards.manifest import Manifest
from md2dist.data.shards.recipe import Recipe

SCRIPT = Path(__file__).parents[2] / "shard_tools" / "make_shards.py"
SMALL = ["--height", "32", "--width", "64"]


def command(*options: object) -> list[str]:
    """Returns the command line as a list."""
    return [sys.executable, str(SCRIPT), *map(str, options)]


def make_shards(*options: object) -> subprocess.CompletedProcess[str]:
    """Runs the command and waits for it."""
    return subprocess.run(command(*options), capture_output=True, text=True, timeout=120)


def request(folder: Path, *options: object) -> list[object]:
    """Returns options to pack folder/split.txt from folder/kitti to folder/out, plus `options`."""
    paths = ["--kitti-root", folder / "kitti", "--split", folder / "split.txt"]
    return [*paths, "--output", folder / "out", *SMALL, *options]


def pack_plan(plan: Plan, output: Path, *, overwrite: bool = False, **options: int) -> Manifest:
    """Packs and merges a plan in this process."""
    pack_shards(plan, output, overwrite=overwrite, **options)
    return merge_shards(plan, output, overwrite=overwrite)


def pack_lines(
    tree: SourceTree | Path,
    output: Path,
    lines: Sequence[SplitLine],
    recipe: Recipe,
    **options: bool,
) -> Manifest:
    """Plans, packs and merges lines of a split; `options` are those of `plan_samples`."""
    tree = tree if isinstance(tree, SourceTree) else SourceTree(tree)
    return pack_plan(plan_samples(KittiSource(tree), lines, recipe, **options), output)


def finished_names(folder: Path) -> set[str]:
    """Returns the final (not hidden) names in a folder."""
    return {path.name for path in folder.glob("[!.]*")}


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Returns the bytes of a data set's files by name; nothing else is in the folder."""
    hidden = [path.name for path in folder.glob(".*")]
    assert hidden in ([], [FINISHED_NAME]), hidden
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*")}


def skipped_in(folder: Path) -> dict[str, str]:
    """Returns the reasons for the samples that a packing skipped, by their lines of the split."""
    objects = map(json.loads, (folder / SKIPPED_NAME).read_text().splitlines())
    return {str(SkippedLine(**item)): item["reason"] for item in objects}
