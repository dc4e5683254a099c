"""End-to-end demo in minutes: render drives, pack, train, evaluate, draw a depth picture.

    md2dist demo --output demo_output

Each stage is an ordinary command, printed before it runs. The held-out drives are rendered in a
different world than the training drives.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from md2dist.commands.options.common import CommandParser
from md2dist.console import run_command, write_lines
from md2dist.data.shards.dataset import ShardDataset
from md2dist.errors import ConfigError, EvaluationError
from md2dist.storage.atomic import atomic_write
from md2dist.storage.results import holds_figures, lock_folder, write_json
from md2dist.storage.typed_json import Number, read_json
from md2dist.synthetic.drives import split_lines

if TYPE_CHECKING:  # the functions import torch late: it takes seconds
    from md2dist.evaluation.baselines import RowProfile

SIZE = ["--height", "64", "--width", "192"]
RENDER = ["--width", "416", "--height", "128", "--processes", "2", "--overwrite"]
SCAN_EVERY = 4  # frames
HELD_OUT_DRIVES = 4  # the error differs between streets
MARK_NAME = ".md2dist-demo"


@dataclass(frozen=True)
class Figures:
    """The part of the evaluation's JSON that the summary needs."""

    abs_rel: Number


def main() -> None:
    """Runs all stages in a folder that no other demo uses, and prints a summary."""
    parser = CommandParser(description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("demo_output"), help="folder for all results"
    )
    parser.add_argument("--drives", type=int, default=20, help="number of training drives")
    parser.add_argument("--frames", type=int, default=20, help="number of stereo frames per drive")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings that override configs/demo.yaml"
    )
    arguments = parser.parse_args()
    with lock_folder(arguments.output):
        claim_folder(arguments.output)
        run_stages(arguments)


def run_stages(arguments: argparse.Namespace) -> None:
    """Renders, packs, trains, evaluates, predicts, and prints a summary."""
    from md2dist.evaluation.baselines import fit_constant, fit_row_profile

    start = time.monotonic()
    output = arguments.output
    shards, run = output / "shards", output / "run"
    make_shards(output, shards, arguments.drives, arguments.frames)
    train(shards, run, arguments.overrides)
    report = output / "metrics.json"
    held_out = shards / "held_out"
    call("evaluate", "--checkpoint", run, "--shards", held_out, "--output", report)
    picture = draw(output, run)
    seen, unseen = ShardDataset(shards / "scans"), ShardDataset(held_out)
    reached = read_json(report, Figures, EvaluationError, "repeat the demo").abs_rel
    baseline = abs_rel(fit_constant(seen), unseen)
    summary = {
        "abs_rel": reached,
        "baseline_abs_rel": baseline,
        "ratio": round(reached / baseline, 3),
        "row_profile_abs_rel": abs_rel(fit_row_profile(seen), unseen),
        "shards": str(shards),
        "run": str(run),
        "metrics": str(report),
        "picture": str(picture),
        "seconds": round(time.monotonic() - start, 1),
    }
    write_json(output / "summary.json", summary)
    write_lines("\n" + "\n".join(f"{name:20} {value}" for name, value in summary.items()))


def claim_folder(output: Path) -> None:
    """Marks the folder of a demo, whose files the next one replaces.

    Raises:
        ConfigError: if it holds files, but neither this mark nor the figures of a demo.
    """
    mark = output / MARK_NAME
    is_demo = mark.exists() or holds_figures(output / "summary.json", "baseline_abs_rel")
    if any(output.iterdir()) and not is_demo:
        raise ConfigError(
            f"{output} holds files that are not of a demo and might be replaced; name a new folder "
            "as --output"
        )
    mark.touch()


def make_shards(output: Path, shards: Path, num_drives: int, num_frames: int) -> None:
    """Renders both worlds and packs training frames, training scans and held-out scans."""
    for name, first, count in (("training", 1, num_drives), ("held_out", 1001, HELD_OUT_DRIVES)):
        call(
            "synthesize", "--output", output / "kitti" / name,
            "--seed", first, "--first-drive", first, "--drives", count, "--frames", num_frames,
            "--scan-every", SCAN_EVERY, *RENDER,
        )  # fmt: skip
    scans_only = ["--frame-offsets", "--no-stereo", "--ground-truth", "velodyne"]
    for name, world, offsets, sides, step, options in (
        ("training", "training", (-1, 1), "lr", 1, []),
        ("scans", "training", (), "l", SCAN_EVERY, scans_only),
        ("held_out", "held_out", (), "l", SCAN_EVERY, scans_only),
    ):
        drives = sorted((output / "kitti" / world).glob("*/*_sync"))
        lines = [
            line for drive in drives for line in split_lines(drive, num_frames, offsets, sides)
        ]
        split = output / f"{name}.txt"
        atomic_write(split, ("\n".join(lines[::step]) + "\n").encode())
        call(
            "pack", "--kitti-root", output / "kitti" / world,
            "--split", split, "--output", shards / name, "--samples-per-shard", 128,
            "--processes", 2, "--overwrite", *SIZE, *options,
        )  # fmt: skip


def train(shards: Path, run: Path, overrides: list[str]) -> None:
    """Trains on up to two GPUs, or on two CPU ranks without a GPU; sets an earlier run aside."""
    import torch

    from md2dist.distributed.world import find_free_port

    num_ranks = min(torch.cuda.device_count(), 2) or 2
    run_program(
        "deepspeed", "-q", "--num_gpus", num_ranks, "--master_port", find_free_port(),
        "--module", "md2dist.commands.train", "--config", "configs/demo.yaml",
        f"data.train_shards={shards / 'training'}", f"data.val_shards={shards / 'held_out'}",
        f"log.run_dir={run}", "checkpoint.resume=never", *overrides,
    )  # fmt: skip


def draw(output: Path, run: Path) -> Path:
    """Predicts the depth of one held-out image and returns the path of its picture."""
    images = sorted((output / "kitti" / "held_out").glob("*/*_sync/image_02/data/*"))
    image = images[len(images) // 2]
    call("predict", "--checkpoint", run, "--input", image, "--output", output / "depth")
    return output / "depth" / f"{image.stem}_picture.png"


def abs_rel(baseline: RowProfile, dataset: ShardDataset) -> float:
    """Returns the abs_rel of a baseline, which predicts metric depth."""
    from md2dist.evaluation.depth import evaluate_depth

    report = evaluate_depth(baseline, dataset, protocol="eigen", scaling=1.0)
    return report.metrics.abs_rel


def call(command: str, *words: object) -> None:
    """Runs a command of md2dist."""
    run_program("md2dist", command, *words)


def run_program(program: str, *words: object) -> None:
    """Prints a command line and runs it; exits with its code if it fails."""
    command = [program, *map(str, words)]
    write_lines("\n$ " + shlex.join(command))
    sys.stdout.flush()
    # The program of this environment, regardless of PATH.
    executable = Path(sys.executable).with_name(program)
    result = subprocess.run([executable, *command[1:]], check=False)
    if result.returncode:
        sys.exit(result.returncode)


if __name__ == "__main__":
    run_command(main)
