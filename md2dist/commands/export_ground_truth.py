"""Exports the ground truth of shards as gt_depths.npz, which scripts beside Monodepth2 read.

    md2dist export-ground-truth --shards shards/test --output gt_depths.npz

The file has one key, `data`: an array of objects, each a float32 depth map in m, 0 where unknown.
"""

import argparse
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from md2dist.commands.options.common import CommandParser, add_overwrite
from md2dist.console import run_command, write_line
from md2dist.data.shards.dataset import ShardDataset
from md2dist.data.shards.recipe import GROUND_TRUTH_REMEDY
from md2dist.errors import ShardError
from md2dist.storage.results import is_marked_zip, mark_zip, prepare_file, write_result


def main() -> None:
    """Writes the maps in the order of the shards, which is that of the split."""
    arguments = parse_arguments()
    prepare_file(
        arguments.output, lambda path: arguments.overwrite or is_marked_zip(path), [".npz"]
    )
    dataset = ShardDataset(
        arguments.shards, cache_dir=arguments.cache_dir, cache_gb=arguments.cache_gb
    )
    dataset.check_files()
    check_order(dataset)
    maps = collect_maps(dataset)

    def write(file: BinaryIO) -> None:
        np.savez_compressed(file, data=maps)
        mark_zip(file)

    write_result(arguments.output, write)
    write_line(f"{len(maps)} depth maps of {dataset.manifest.recipe.split} in {arguments.output}")


def check_order(dataset: ShardDataset) -> None:
    """Checks that map i belongs to line i of the split, and warns of lines that were skipped.

    Raises:
        ShardError: if the shards have no ground truth, or are shuffled.
    """
    recipe = dataset.manifest.recipe
    options = f"--split {recipe.split} --frame-offsets --no-stereo --order sequential"
    if recipe.ground_truth == "none":
        raise ShardError(
            f"{dataset.place} carries no ground truth; pack again with {options} "
            f"{GROUND_TRUTH_REMEDY}"
        )
    if recipe.order != "sequential":
        raise ShardError(
            f"{dataset.place} is packed in {recipe.order} order, but the maps are matched with "
            f"predictions by their position; pack again with {options} "
            f"--ground-truth {recipe.ground_truth}"
        )
    if dataset.manifest.skipped:
        first = dataset.manifest.skipped[0]
        write_line(
            f"{dataset.manifest.num_skipped} lines of {recipe.split} were skipped at packing, "
            f"first {first.name} ({first.reason}); predictions of all lines do not match these maps"
        )


def collect_maps(dataset: ShardDataset) -> NDArray[np.object_]:
    """Reads the ground truth of all samples: (N,) objects, each (H, W) float32 in m."""
    maps = np.empty(len(dataset), object)
    for index, sample in enumerate(dataset.samples(range(len(dataset)))):
        maps[index] = sample.ground_truth
    return maps


def parse_arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = CommandParser(description=__doc__)
    parser.add_argument(
        "--shards", required=True, help="folder or URL of shards packed with --ground-truth"
    )
    parser.add_argument("--output", type=Path, required=True, help="file NAME.npz for the maps")
    add_overwrite(parser)
    parser.add_argument("--cache-dir", help="cache folder for remote shards, as data.cache_dir")
    parser.add_argument(
        "--cache-gb", type=float, default=50.0, help="cache size limit in GB, as data.cache_gb"
    )
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
