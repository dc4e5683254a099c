"""Evaluates a model's depth on shards that carry ground truth.

    python launch/evaluate.py --checkpoint runs/mono_stereo --shards shards/eigen_test

Under `deepspeed`, `torchrun` or `srun` the ranks share the images; the figures stay the same.
"""

import argparse
from pathlib import Path

from md2dist.data.shard_format import check_recipe
from md2dist.data.shard_reader import ShardDataset
from md2dist.errors import run_command
from md2dist.evaluation.depth import evaluate_depth
from md2dist.evaluation.depth_metrics import STEREO_FACTOR, read_scaling
from md2dist.evaluation.protocols import choose_protocol
from md2dist.prediction.files import prepare_file, write_json
from md2dist.prediction.predictor import frames_predictor
from md2dist.training.world import failing_together, join_world, leave_world, sum_over_ranks
from md2dist.weights import load_model


def main() -> None:
    """Parses the arguments, evaluates, prints a table row."""
    arguments = parse_arguments()
    world = join_world()
    try:
        with failing_together(world):
            if world.is_main and arguments.output:
                prepare_file(arguments.output)
            model = load_model(arguments.checkpoint, world.device)
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
            recipe = dataset.manifest.recipe
            protocol = choose_protocol(recipe, arguments.shards, arguments.protocol)
            scaling = read_scaling(
                arguments.scaling,
                {"auto": STEREO_FACTOR if model.use_stereo else "median", "median": "median"},
            )
            report = evaluate_depth(
                frames_predictor(model),
                dataset,
                protocol=protocol,
                scaling=scaling,
                rank=world.rank,
                world_size=world.world_size,
                sum_over_ranks=sum_over_ranks,
                batch_size=arguments.batch_size,
                use_flip_postprocess=arguments.flip_postprocess,
            )
    finally:
        leave_world()
    if world.is_main:
        print(f"{protocol}, scaling {scaling}\n\n{report.as_markdown()}")
        if arguments.output:
            settings = {"protocol": protocol, "scaling": scaling}
            write_json(arguments.output, settings | report.as_dict())


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        help="a run's folder, one of its checkpoints, or a folder of published weights",
    )
    parser.add_argument(
        "--shards", required=True, help="folder, or address, of shards packed with --ground-truth"
    )
    parser.add_argument(
        "--protocol",
        choices=["eigen", "eigen_benchmark"],
        help="eigen: projected scans, cropped, below 80 m; eigen_benchmark: annotated depth, every "
        "known pixel; the default is the one that fits the shards",
    )
    parser.add_argument(
        "--scaling",
        default="auto",
        help="median (per image), or a factor of the depth; auto: 5.4 for models trained with "
        "stereo, else median",
    )
    parser.add_argument("--output", type=Path, help="also write the figures to this JSON file")
    parser.add_argument(
        "--flip-postprocess",
        action="store_true",
        help="average with the prediction of the mirrored image",
    )
    parser.add_argument("--batch-size", type=int, default=8, help="images per forward pass")
    parser.add_argument("--cache-dir", help="where to keep what is fetched, as data.cache_dir")
    parser.add_argument(
        "--cache-gb", type=float, default=50.0, help="bound of it, as data.cache_gb"
    )
    parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)  # of the launcher
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
