"""Evaluates depth on shards with ground truth: that of a model, or saved predictions.

    md2dist evaluate --checkpoint runs/mono_stereo --shards shards/test

    md2dist evaluate --predictions disps_mono_eigen_split.npy --shards shards/test --scaling median

Under `deepspeed`, `torchrun` or `srun`, the ranks split the images among themselves; the metrics
are the same as with one rank.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from md2dist.commands.evaluation_source import Source, open_source
from md2dist.commands.options import CommandParser, add_checkpoint, add_dtype, add_local_rank
from md2dist.console import print_error, run_command, write_line, write_lines
from md2dist.data.shards.dataset import ShardDataset
from md2dist.distributed.signals import EXIT_PREEMPTED
from md2dist.errors import ConfigError
from md2dist.storage.results import prepare_file

if TYPE_CHECKING:  # the functions import torch late: it takes seconds
    from md2dist.distributed.watchdog import Watchdog
    from md2dist.distributed.world import World
    from md2dist.evaluation.depth import ImageScaling, SamplePredictor
    from md2dist.evaluation.depth_metrics import ProtocolName
    from md2dist.evaluation.tables import Table

REMEDY = (  # an active run saves new checkpoints, and `auto` depends on the machine
    "pass the folder of one checkpoint as --checkpoint, an explicit --dtype, and the same shards "
    "on all ranks"
)


class Work(NamedTuple):
    """One folder of shards, and the predictor that fits it."""

    dataset: ShardDataset
    protocol: ProtocolName
    predict: SamplePredictor


def main() -> None:
    """Evaluates on all ranks; the main rank prints tables and writes files."""
    arguments = parse_arguments()
    from md2dist.distributed.agreement import check_agreement, exit_on_all_ranks
    from md2dist.distributed.job import join_job

    with join_job() as (world, watchdog):
        with exit_on_all_ranks(world):
            check_outputs(arguments)
            source, scalings, works = prepare(arguments, world)
        with exit_on_all_ranks(world):
            check_agreement(
                world,
                REMEDY,
                **source.title,
                scalings=scalings,
                protocols=[work.protocol for work in works],
                shard_digests=[work.dataset.manifest.digest for work in works],
            )
        tables = []
        for work in works:
            tables += evaluate(
                work, scalings, arguments.batch_size, arguments.save_disparities, world, watchdog
            )
    if world.is_main:
        report(arguments, source, tables)


def prepare(
    arguments: argparse.Namespace, world: World
) -> tuple[Source, list[ImageScaling], list[Work]]:
    """Opens the source and the shards, and selects protocols and scalings."""
    from md2dist.evaluation.protocols import choose_protocol
    from md2dist.evaluation.scalings import choose_scalings

    source = open_source(arguments, world.device)
    scalings = choose_scalings(
        arguments.scaling,
        source.origin,
        is_calibrated=arguments.calibrated,
        is_forced=arguments.force,
    )
    works = []
    for folder in arguments.shards:
        dataset = ShardDataset(folder, cache_dir=arguments.cache_dir, cache_gb=arguments.cache_gb)
        dataset.check_files()
        predict = source.predictor_for(dataset)
        protocol = choose_protocol(dataset.manifest.recipe, folder, arguments.protocol)
        works.append(Work(dataset, protocol, predict))
    return source, scalings, works


def evaluate(
    work: Work,
    scalings: list[ImageScaling],
    batch_size: int,
    save_disparities: Path | None,
    world: World,
    watchdog: Watchdog,
) -> list[Table]:
    """Scores a folder of shards; each rank scores a part of the images."""
    from md2dist.commands.disparity_output import saving_disparities
    from md2dist.distributed.agreement import exit_on_all_ranks
    from md2dist.distributed.world import gather_over_ranks
    from md2dist.evaluation.depth import EvaluationInterrupted, score_depth
    from md2dist.evaluation.tables import Table

    def is_stopping() -> bool:
        watchdog.report_progress("evaluating")
        return watchdog.is_stopping()

    dataset = work.dataset
    try:
        with (
            saving_disparities(save_disparities, work.predict, dataset, world) as predict,
            exit_on_all_ranks(world),
        ):
            scores = score_depth(
                predict,
                dataset,
                protocol=work.protocol,
                scalings=scalings,
                topology=world.topology(),
                gather=gather_over_ranks,
                batch_size=batch_size,
                is_stopping=is_stopping,
            )
    except EvaluationInterrupted:
        if world.is_main:
            print_error("stopped before all images were evaluated; no metrics were computed")
        sys.exit(EXIT_PREEMPTED)
    split, digest = dataset.manifest.recipe.split, dataset.manifest.digest
    return [
        Table(dataset.place, split, digest, work.protocol, scaling, scores[number])
        for number, scaling in enumerate(scalings)
    ]


def report(arguments: argparse.Namespace, source: Source, tables: list[Table]) -> None:
    """Prints the tables, and writes the files."""
    from md2dist.evaluation.tables import as_markdown, write_scores, write_tables

    words = list(source.words)
    if len(tables) == 1:
        words = [tables[0].protocol, f"scaling {tables[0].scaling}", *words]
    write_line(", ".join(words))
    write_lines(f"\n{as_markdown(tables, arguments.per_drive)}")
    for path in arguments.output:
        write_tables(path, source.title, tables, arguments.per_drive)
    if arguments.per_image:
        write_scores(arguments.per_image, tables)


def check_outputs(arguments: argparse.Namespace) -> None:
    """Checks the paths of all results before the computation."""
    from md2dist.evaluation.tables import check_suffix

    for path in (*arguments.output, arguments.per_image, arguments.save_disparities):
        if path:
            prepare_file(path)
    for path in arguments.output:
        check_suffix(path)
    if arguments.save_disparities and len(arguments.shards) > 1:
        raise ConfigError(
            f"--save-disparities writes one file, but --shards names {len(arguments.shards)} "
            "folders; pass one"
        )


def parse_arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = CommandParser(description=__doc__)
    add_source(parser)
    parser.add_argument(
        "--shards",
        required=True,
        nargs="+",
        help="folders or URLs of shards packed with --ground-truth, a table for each",
    )
    parser.add_argument(
        "--protocol",
        choices=["eigen", "eigen_benchmark"],
        help="evaluation protocol; eigen: projected scans, cropped, below 80 m; eigen_benchmark: "
        "annotated depth, all valid pixels; default: the one for the shards' ground truth",
    )
    parser.add_argument(
        "--scaling",
        default="auto",
        help="depth scaling: median (per image), or a factor; auto: 5.4 for models trained with "
        "stereo, else median; 1 for saved depth",
    )
    parser.add_argument(
        "--calibrated",
        action="store_true",
        help="add a table scaled by the true baseline of each drive's cameras",
    )
    parser.add_argument(
        "--force", action="store_true", help="evaluate although the model does not fit"
    )
    add_outputs(parser)
    parser.add_argument(
        "--flip-postprocess",
        action="store_true",
        help="average each prediction with that of the mirrored image",
    )
    add_dtype(parser)
    parser.add_argument(
        "--batch-size", type=int, default=8, help="number of images per forward pass"
    )
    parser.add_argument("--cache-dir", help="cache folder for remote shards, as data.cache_dir")
    parser.add_argument(
        "--cache-gb", type=float, default=50.0, help="cache size limit in GB, as data.cache_gb"
    )
    add_local_rank(parser)
    return parser.parse_args()


def add_source(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the model or of the saved predictions."""
    sources = parser.add_mutually_exclusive_group(required=True)
    add_checkpoint(sources, required=False)
    sources.add_argument(
        "--predictions",
        type=Path,
        help="saved predictions: array (N, h, w) in a file .npy, in the order of the split, or a "
        "folder with one file per image",
    )
    parser.add_argument(
        "--predictions-are",
        dest="quantity",
        choices=["disparity", "depth"],
        help="quantity of saved predictions; disparity: scaled disparity in 1/m (the default); "
        "depth: depth in m, in .npy or in 16-bit PNG / 256",
    )
    parser.add_argument(
        "--predictions-split",
        dest="predicted_split",
        metavar="SPLIT",
        help="split, by name or file, in whose order the array was saved, if not that of the "
        "shards",
    )
    parser.add_argument(
        "--splits-dir", type=Path, help="folder of named splits, used instead of a download"
    )


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the results."""
    parser.add_argument(
        "--output",
        type=Path,
        nargs="+",
        default=[],
        help="files for the tables: .json, .csv or .md",
    )
    parser.add_argument(
        "--per-drive", action="store_true", help="add a row for each drive to the tables"
    )
    parser.add_argument("--per-image", type=Path, help="CSV file for the metrics of each image")
    parser.add_argument(
        "--save-disparities",
        type=Path,
        metavar="FILE.npy",
        help="file for the scaled disparities (N, h, w) in 1/m, in the order of the split",
    )


if __name__ == "__main__":
    run_command(main)
