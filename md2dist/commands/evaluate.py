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

from md2dist.commands.options.evaluation import (
    Source,
    check_options,
    open_source,
    parse_arguments,
    prepare_outputs,
)
from md2dist.console import print_error, print_line, run_command, write_line, write_lines
from md2dist.data.shards.dataset import ShardDataset
from md2dist.distributed.signals import EXIT_PREEMPTED

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
    arguments = parse_arguments(__doc__)
    from md2dist.distributed.agreement import check_agreement, exit_on_all_ranks
    from md2dist.distributed.job import join_job

    with join_job() as (world, watchdog):
        with exit_on_all_ranks(world):
            check_options(arguments)
            if world.is_main:
                prepare_outputs(arguments)
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
            with exit_on_all_ranks(world):
                if arguments.worst and world.is_main:
                    draw_pictures(arguments, work, tables[-len(scalings)], watchdog)
    if world.is_main:
        report(arguments, source, tables)


def prepare(
    arguments: argparse.Namespace, world: World
) -> tuple[Source, list[ImageScaling], list[Work]]:
    """Opens the source and the shards, and selects protocols and scalings."""
    from md2dist.evaluation.protocols import choose_protocol
    from md2dist.evaluation.scalings import choose_scalings
    from md2dist.evaluation.training_overlap import check_overlap

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
        warning = check_overlap(source.training, dataset.manifest, is_forced=arguments.force)
        if warning and world.is_main:
            print_line(f"warning: {warning}")
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
    from md2dist.distributed.agreement import exit_on_all_ranks
    from md2dist.distributed.world import gather_over_ranks
    from md2dist.evaluation.depth import EvaluationInterrupted, score_depth
    from md2dist.evaluation.disparity_file import saving_disparities
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


def draw_pictures(
    arguments: argparse.Namespace, work: Work, table: Table, watchdog: Watchdog
) -> None:
    """Draws the images with the largest errors."""
    from md2dist.prediction.error_pictures import draw_worst
    from md2dist.prediction.image_files import write_picture

    worst = draw_worst(table.scores, arguments.worst, work.predict, work.dataset, work.protocol)
    for number, (key, picture) in enumerate(worst, start=1):
        watchdog.report_progress("drawing")
        name = f"{work.protocol}_worst_{number:02d}_{key}.png"
        write_picture(arguments.pictures / name, picture)


def report(arguments: argparse.Namespace, source: Source, tables: list[Table]) -> None:
    """Prints the tables, and writes the files."""
    from md2dist.evaluation.tables import as_markdown, write_scores, write_tables

    protocols = {table.protocol for table in tables}  # columns name them where they differ
    scalings = {f"scaling {table.scaling}" for table in tables}
    common = [
        *(protocols if len(protocols) == 1 else ()),
        *(scalings if len(scalings) == 1 else ()),
    ]
    heading = ", ".join([*common, *source.words])
    write_line(heading)
    write_lines(f"\n{as_markdown(tables, arguments.per_drive)}")
    for path in arguments.output:
        write_tables(path, heading, source.title, tables, arguments.per_drive)
    if arguments.per_image:
        write_scores(arguments.per_image, tables)


if __name__ == "__main__":
    run_command(main)
