"""Evaluates a model's depth on shards with ground truth.

    md2dist evaluate --checkpoint runs/mono_stereo --shards shards/test

Under `deepspeed`, `torchrun` or `srun`, the ranks split the images among themselves; the metrics
are the same as with one rank.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from md2dist.commands.options import (
    CommandParser,
    add_checkpoint,
    add_dtype,
    add_local_rank,
    add_overwrite,
)
from md2dist.console import print_error, run_command, write_line, write_lines
from md2dist.conventions import default_scaling
from md2dist.data.shards.compatibility import check_recipe
from md2dist.data.shards.dataset import ShardDataset
from md2dist.distributed.signals import EXIT_PREEMPTED
from md2dist.storage.results import holds_figures, prepare_file, write_json

if TYPE_CHECKING:  # the functions import torch late: it takes seconds
    from md2dist.distributed.watchdog import Watchdog
    from md2dist.distributed.world import World
    from md2dist.evaluation.depth import DepthReport
    from md2dist.evaluation.depth_metrics import ProtocolName, Scaling
    from md2dist.model import MonodepthModel

REMEDY = (  # an active run saves new checkpoints, and `auto` depends on the machine
    "pass the folder of one checkpoint as --checkpoint, an explicit --dtype, and the same shards "
    "on all ranks"
)


class EvaluationTitle(NamedTuple):
    """Settings and data that determine the metrics, named as in the JSON file."""

    protocol: ProtocolName
    scaling: Scaling
    dtype: str
    flip_postprocess: bool
    checkpoint: str  # as passed
    checkpoint_folder: str
    step: int | None  # None for published weights
    shards: str  # as passed, without secrets
    shard_digest: str

    def __str__(self) -> str:
        """Returns a one-line summary for the terminal."""
        words = [self.protocol, f"scaling {self.scaling}", self.dtype]
        words += ["flip post-processing"] * self.flip_postprocess
        words += [self.checkpoint] + [f"step {self.step}"] * (self.step is not None)
        return ", ".join(words)


def main() -> None:
    """Evaluates on all ranks; the main rank prints a table and writes the JSON file."""
    arguments = parse_arguments()
    from md2dist.distributed.agreement import check_agreement, exit_on_all_ranks
    from md2dist.distributed.job import join_job

    with join_job() as (world, watchdog):
        with exit_on_all_ranks(world):
            model, dataset, title = prepare(arguments, world)
        with exit_on_all_ranks(world):
            check_agreement(world, REMEDY, **title._asdict())
            report = evaluate(arguments, model, dataset, title, world, watchdog)
    if world.is_main:
        write_line(title)
        write_lines(f"\n{report.as_markdown()}")
        if arguments.output:
            write_json(arguments.output, title._asdict() | report.as_dict())


def prepare(
    arguments: argparse.Namespace, world: World
) -> tuple[MonodepthModel, ShardDataset, EvaluationTitle]:
    """Opens the model and the shards, and selects protocol, scaling and dtype."""
    from md2dist.evaluation.depth_metrics import read_scaling
    from md2dist.evaluation.protocols import choose_protocol
    from md2dist.networks.precision import name_dtype
    from md2dist.weights import find_model, load_model

    if world.is_main and arguments.output:
        prepare_file(
            arguments.output,
            lambda path: arguments.overwrite or holds_figures(path, "shard_digest"),
        )
    folder, step = find_model(arguments.checkpoint, arguments.weights_dir)
    model = load_model(folder, world.device, arguments.dtype)
    dataset = ShardDataset(
        arguments.shards, cache_dir=arguments.cache_dir, cache_gb=arguments.cache_gb
    )
    dataset.check_files()
    check_recipe(
        dataset.manifest,
        arguments.shards,
        height=model.height,
        width=model.width,
        frame_offsets=(),
        use_stereo=False,
    )
    scalings = {"auto": default_scaling(model.use_stereo), "median": "median"}
    title = EvaluationTitle(
        protocol=choose_protocol(dataset.manifest.recipe, arguments.shards, arguments.protocol),
        scaling=read_scaling(arguments.scaling, scalings),
        dtype=name_dtype(model.dtype),
        flip_postprocess=arguments.flip_postprocess,
        checkpoint=str(arguments.checkpoint),
        checkpoint_folder=folder.name,
        step=step,
        shards=dataset.place,
        shard_digest=dataset.manifest.digest,
    )
    return model, dataset, title


def evaluate(
    arguments: argparse.Namespace,
    model: MonodepthModel,
    dataset: ShardDataset,
    title: EvaluationTitle,
    world: World,
    watchdog: Watchdog,
) -> DepthReport:
    """Evaluates the model; each rank evaluates a part of the images."""
    from md2dist.distributed.world import sum_over_ranks
    from md2dist.evaluation.depth import (
        EvaluationInterrupted,
        evaluate_depth,
        with_flip_postprocess,
    )
    from md2dist.prediction.predictor import frames_predictor

    def is_stopping() -> bool:
        watchdog.report_progress("evaluating")
        return watchdog.is_stopping()

    predict = frames_predictor(model)
    try:
        return evaluate_depth(
            with_flip_postprocess(predict) if title.flip_postprocess else predict,
            dataset,
            protocol=title.protocol,
            scaling=title.scaling,
            topology=world.topology(),
            sum_over_ranks=sum_over_ranks,
            batch_size=arguments.batch_size,
            is_stopping=is_stopping,
        )
    except EvaluationInterrupted:
        if world.is_main:
            print_error("stopped before all images were evaluated; no metrics were computed")
        sys.exit(EXIT_PREEMPTED)


def parse_arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = CommandParser(description=__doc__)
    add_checkpoint(parser)
    parser.add_argument(
        "--shards", required=True, help="folder or URL of shards packed with --ground-truth"
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
        "stereo, else median",
    )
    parser.add_argument("--output", type=Path, help="JSON file for the metrics")
    add_overwrite(parser)
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


if __name__ == "__main__":
    run_command(main)
