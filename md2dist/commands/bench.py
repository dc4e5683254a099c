"""Benchmarks packing, loading, a store, steps, their agreement, a start, or prediction."""

import argparse
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from md2dist.commands.options.common import CommandParser, add_local_rank, add_overwrite
from md2dist.console import run_command, write_line
from md2dist.errors import ConfigError
from md2dist.storage.results import holds_figures, prepare_file, write_json

Row = dict[str, Any]


def parse_arguments() -> argparse.Namespace:
    """Parses the command line; `run` is the function of the chosen benchmark."""
    parser = CommandParser(description=__doc__)
    add_local_rank(parser)
    names = "formats|data|store|step|agreement|start|predict"
    benchmarks = parser.add_subparsers(required=True, metavar=names)

    def add_benchmark(name: str, run: Callable, repeats: int, repeated: str) -> ArgumentParser:
        text = run.__doc__ or ""
        benchmark = benchmarks.add_parser(name, help=text, description=text)
        benchmark.set_defaults(run=run)
        help_text = f"number of timed {repeated}"
        benchmark.add_argument("--repeats", type=int, default=repeats, help=help_text)
        benchmark.add_argument("--output", type=Path, help="JSON file for the figures")
        add_overwrite(benchmark)
        return benchmark

    formats = add_benchmark("formats", time_formats, 5, "packings in each format")
    add = formats.add_argument
    add("--kitti-root", type=Path, nargs="+", required=True,
        help="folders or archives of KITTI, as for `md2dist pack`")  # fmt: skip
    add("--split", required=True,
        help="split, as for `md2dist pack`; rules skip drives without speeds")  # fmt: skip
    add("--splits-dir", type=Path, help="folder of NAME/PART_files.txt, used instead of a download")
    add("--samples", type=int, default=64, help="number of samples, from the start of the split")
    data = add_benchmark("data", time_data, 20, "batches")
    step = add_benchmark("step", time_step, 20, "steps")
    add = step.add_argument
    add("--find-batch", action="store_true",
        help="find the largest micro-batch that fits into the device's memory")  # fmt: skip
    add("--num-ranks", type=int, default=1,
        help="with --find-batch: ranks of the training, for its global batch and rate")  # fmt: skip
    add("--memory-gib", type=float,
        help="with --find-batch: memory of a rank; default: 95 %% of what is free")  # fmt: skip
    add("--engine", choices=["deepspeed", "ddp"], default="deepspeed",
        help="ddp: torch's DistributedDataParallel, for comparison")  # fmt: skip
    agreement = add_benchmark("agreement", time_agreement, 500, "steps")
    agreement.add_argument("--ranks", type=int, nargs="+", default=[2, 8, 32], metavar="N",
        help="numbers of ranks, each a process of this machine")  # fmt: skip
    store = add_benchmark("store", time_store, 100, "requests over each kind of connection")
    store.add_argument("--shards", required=True, help="address of a folder of shards")
    start = add_benchmark("start", time_start, 1, "starts")
    start.add_argument("--num-ranks", type=int, default=2, help="number of ranks")
    predict = add_benchmark("predict", time_predict, 3, "runs")
    add = predict.add_argument
    add("--input", type=Path, required=True, help="folder of images, as for `md2dist predict`")
    add("--shards", type=Path, help="shards with ground truth, to time `md2dist evaluate` as well")
    add("--batch-size", type=int, default=8, help="images per forward pass")
    for benchmark in (data, step, start, predict):
        add = benchmark.add_argument
        add("--config", nargs="+", default=[], metavar="FILE",
            help="YAML config files; later ones override earlier ones")  # fmt: skip
        add("overrides", nargs="*", metavar="key=value",
            help="settings that override the files, e.g. precision.dtype=bf16")  # fmt: skip
    return parser.parse_args()


def time_formats(arguments: argparse.Namespace) -> list[Row]:
    """Times packing and reading of mono+stereo samples at 640x192 in each image format."""
    from md2dist.benchmarks.formats import bench_formats
    from md2dist.data.kitti.named_splits import load_split, name_split
    from md2dist.data.kitti.roots import open_kitti
    from md2dist.data.kitti.source import KittiSource
    from md2dist.data.shards.recipe import Recipe

    recipe = Recipe(name_split(arguments.split), 192, 640, (-1, 1), use_stereo=True)
    tree = open_kitti(*arguments.kitti_root)
    split = load_split(
        arguments.split,
        tree,
        frame_offsets=recipe.frame_offsets,
        use_stereo=recipe.use_stereo,
        splits_dir=arguments.splits_dir,
        skip_bad=True,
    )
    lines = split.lines[: max(arguments.samples, 0)]
    return bench_formats(KittiSource(tree), lines, recipe, arguments.repeats)


def time_data(arguments: argparse.Namespace) -> Row:
    """Times data loading: from the training shards to batches."""
    from md2dist.benchmarks.steps import bench_data
    from md2dist.config import load_words

    return bench_data(load_words([*arguments.config, *arguments.overrides]), arguments.repeats)


def time_store(arguments: argparse.Namespace) -> Row:
    """Times requests for samples to a store, over kept and over new connections."""
    from md2dist.benchmarks.requests import bench_requests

    return bench_requests(arguments.shards, arguments.repeats)


def time_step(arguments: argparse.Namespace) -> Row | list[Row]:
    """Times training steps, and their networks alone, on random images; finds the largest batch."""
    from md2dist.benchmarks.steps import bench_step
    from md2dist.config import load_words
    from md2dist.distributed.world import init_distributed, shutdown_distributed

    config = load_words([*arguments.config, *arguments.overrides])
    if arguments.find_batch:
        if arguments.engine != "deepspeed":
            raise ConfigError("--find-batch searches with DeepSpeed; omit --engine")
        from md2dist.benchmarks.batch_search import find_batch

        return find_batch(config, arguments.repeats, arguments.num_ranks, arguments.memory_gib)
    world = init_distributed()
    try:
        row = bench_step(config, arguments.repeats, world, arguments.engine)
        return row if world.is_main else []
    finally:
        shutdown_distributed()


def time_agreement(arguments: argparse.Namespace) -> list[Row]:
    """Times the agreement of all ranks before a step, and their heartbeats."""
    from md2dist.benchmarks.agreement import bench_agreement

    return bench_agreement(arguments.ranks, arguments.repeats)


def time_start(arguments: argparse.Namespace) -> list[Row]:
    """Measures the CPU time of all processes of a training until its first step is done."""
    from md2dist.benchmarks.start import bench_start

    words = [*arguments.config, *arguments.overrides]
    return [bench_start(words, arguments.num_ranks) for _ in range(arguments.repeats)]


def time_predict(arguments: argparse.Namespace) -> list[Row]:
    """Times prediction and evaluation against their network alone, with random weights."""
    from md2dist.benchmarks.prediction import bench_predict
    from md2dist.config import load_words
    from md2dist.prediction.image_files import find_images

    config = load_words([*arguments.config, *arguments.overrides])
    images = find_images(arguments.input)
    return bench_predict(config, images, arguments.shards, arguments.batch_size, arguments.repeats)


def main() -> None:
    """Runs one benchmark and prints a Markdown table."""
    arguments = parse_arguments()
    if arguments.output:
        prepare_file(
            arguments.output,
            lambda path: arguments.overwrite or holds_figures(path, "benchmark"),
            [".json"],
        )
    figures = arguments.run(arguments)
    if not figures:  # another rank writes them
        return
    rows = figures if isinstance(figures, list) else [figures]
    write_line(f"| {' | '.join(rows[0])} |")
    write_line(f"| {' | '.join('---' for _ in rows[0])} |")
    for row in rows:
        values = [f"{value:.4g}" if isinstance(value, float) else value for value in row.values()]
        write_line(f"| {' | '.join(map(str, values))} |")
    if arguments.output:
        write_json(arguments.output, figures)


if __name__ == "__main__":
    run_command(main)
