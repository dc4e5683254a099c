"""Times the loader (data) or the training step (step) through the code that training runs."""

import argparse
import json
from pathlib import Path

from md2dist.config import load_words
from md2dist.errors import run_command
from md2dist.training.benchmark import bench_data, bench_step
from md2dist.training.world import join_world, leave_world


def parse_arguments() -> argparse.Namespace:
    """Gives the benchmark, its repetitions and the words that make the configuration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benchmark", choices=["data", "step"])
    parser.add_argument("--config", nargs="+", default=[], metavar="FILE", help="later ones win")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="e.g. precision.dtype=bf16"
    )
    parser.add_argument("--repeats", type=int, default=20, help="timed batches or steps")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    return parser.parse_args()


def main() -> None:
    """Runs one benchmark; prints a Markdown table of one row."""
    arguments = parse_arguments()
    config = load_words([*arguments.config, *arguments.overrides])
    if arguments.benchmark == "data":
        figures = bench_data(config, arguments.repeats)
    else:
        world = join_world()
        try:
            figures = bench_step(config, arguments.repeats, world)
        finally:
            leave_world()
    values = [f"{value:.4g}" if isinstance(value, float) else value for value in figures.values()]
    print("|", " | ".join(figures), "|")
    print("|", " | ".join("---" for _ in figures), "|")
    print("|", " | ".join(str(value) for value in values), "|")
    if arguments.output:
        arguments.output.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    run_command(main)
