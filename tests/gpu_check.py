"""GPU check: numeric tests, a short bf16 training and step benchmarks; writes one Markdown table.

    python tests/gpu_check.py --output gpu_check_output

It needs no KITTI: the training reads synthetic drives. On a machine without a GPU, `--device cpu`
with small sizes tries the check itself.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Runs the check; exit code 1 if a part of it failed."""
    arguments = parse_arguments()
    arguments.output.mkdir(parents=True, exist_ok=True)
    rows = [("device", describe_device(arguments.device))]
    parts = [test_numbers, train, *(bench_of(size) for size in arguments.batch_sizes)]
    if arguments.device == "cuda":
        parts += [bench_of(size, "precision.compile=true") for size in arguments.batch_sizes]
    is_failed = False
    for part in parts:
        try:
            rows.append(part(arguments))
        except RuntimeError as error:
            is_failed = True
            rows.append((part.__doc__ or "", f"**failed**: {error}"))
        print("|", " | ".join(rows[-1]), "|", flush=True)
    lines = [
        "| check | result |",
        "| --- | --- |",
        *(f"| {name} | {text} |" for name, text in rows),
    ]
    (arguments.output / "gpu_check.md").write_text("\n".join(lines) + "\n")
    print(f"written to {arguments.output / 'gpu_check.md'}")
    sys.exit(1 if is_failed else 0)


def parse_arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--output", type=Path, default=Path("gpu_check_output"), help="folder for all results")
    add("--device", default="cuda", help="device of the numeric tests, cuda or cpu")
    add("--tests", default="numeric and not slow", help="expression of markers (pytest -m)")
    add("--height", type=int, default=192, help="image height in pixels")
    add("--width", type=int, default=640, help="image width in pixels")
    add("--dtype", default="bf16", help="precision of the training and the benchmarks")
    add("--steps", type=int, default=10, help="number of training steps, and of timed ones")
    add("--batch-sizes", type=int, nargs="*", default=[12, 24, 48, 96],
        help="batch sizes of the step benchmark")  # fmt: skip
    return parser.parse_args()


def describe_device(device: str) -> str:
    """Returns the device with the versions of torch, CUDA and the driver."""
    if device == "cpu":
        return f"CPU, torch {torch.__version__}"
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    name = torch.cuda.get_device_name()
    versions = f"torch {torch.__version__}, CUDA {torch.version.cuda}"
    return f"{name}, {versions}, driver {driver[0] if driver else 'unknown'}"


def test_numbers(arguments: argparse.Namespace) -> tuple[str, str]:
    """numeric tests"""
    words = ["-m", "pytest", "-p", "no:cacheprovider", "--device", arguments.device]
    output = run(sys.executable, *words, "-m", arguments.tests, "tests", "-o", "addopts=--tb=short")
    return "numeric tests", output.strip().splitlines()[-1].strip("= ")


def train(arguments: argparse.Namespace) -> tuple[str, str]:
    """training"""
    output, steps = arguments.output, arguments.steps
    size = ["--height", arguments.height, "--width", arguments.width]
    frames = max(24, steps + 4)
    run_command("synthesize", "--output", output / "kitti", *size, "--drives", 1, "--frames",
                frames, "--scan-every", 0, "--processes", 2, "--overwrite")  # fmt: skip
    (drive,) = (output / "kitti").glob("*/*_sync")
    split = output / "split.txt"
    split.write_text("".join(
        f"{drive.parent.name}/{drive.name} {frame} l\n" for frame in range(1, frames - 1)
    ))  # fmt: skip
    run_command("pack", "--kitti-root", output / "kitti", "--split", split, "--output",
                output / "shards", *size, "--processes", 2, "--overwrite")  # fmt: skip
    run_dir = output / "run"
    batch_size = min(12, *arguments.batch_sizes)
    run_command("train", "--config", "configs/mono_stereo.yaml", *settings(arguments, batch_size),
                f"data.train_shards={output / 'shards'}", f"log.run_dir={run_dir}",
                "checkpoint.resume=never", f"optim.max_steps={steps}", "optim.num_epochs=1000",
                "log.every_steps=1", "log.wandb_mode=disabled", "data.num_workers=2")  # fmt: skip
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    if len(losses) != steps or not all(0 < loss < 1 for loss in losses):
        raise RuntimeError(f"losses {losses}, expected {steps} within (0, 1)")
    speed = lines[-1]["train/samples_per_second"]
    text = f"{steps} steps of {batch_size}, loss {losses[0]:.4f} to {losses[-1]:.4f}"
    return f"training, {arguments.dtype}", f"{text}, last step {speed:.1f} samples/s"


def bench_of(batch_size: int, *words: str) -> Any:
    """Returns the benchmark of a batch size with some settings."""
    title = ", ".join(("step", f"batch {batch_size}", *words))

    def bench(arguments: argparse.Namespace) -> tuple[str, str]:
        path = arguments.output / f"step-{batch_size}{'-compiled' * bool(words)}.json"
        given = ["--config", "configs/mono_stereo.yaml", *settings(arguments, batch_size), *words]
        try:
            run_command("bench", "step", *given, "--repeats", arguments.steps, "--output", path)
        except RuntimeError as error:
            if "out of memory" in str(error).lower():
                return title, "out of memory"
            raise
        figures = json.loads(path.read_text())
        return title, (
            f"{figures['samples_per_second']:.1f} samples/s, {figures['ratio']:.2f} x the networks "
            f"alone, peak memory {figures['peak_memory_gib']:.2f} GiB, "
            f"{figures['kernels_per_step']} kernels, "
            f"{figures['host_waits_per_step']} host waits"
        )

    bench.__doc__ = title
    return bench


def settings(arguments: argparse.Namespace, batch_size: int) -> list[str]:
    """Returns the overrides that training and benchmarks share."""
    return [
        f"data.height={arguments.height}", f"data.width={arguments.width}",
        f"precision.dtype={arguments.dtype}", f"optim.micro_batch_size={batch_size}",
        "network.weights=scratch",
    ]  # fmt: skip


def run_command(name: str, *words: object) -> str:
    """Runs a command of md2dist."""
    return run(sys.executable, "-m", f"md2dist.commands.{name}", *words)


def run(*command: object) -> str:
    """Runs a program and returns its output.

    Raises:
        RuntimeError: if it fails, with the last line of its output.
    """
    process = subprocess.run(
        [str(word) for word in command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    output = process.stdout + process.stderr
    if process.returncode:
        print(output, file=sys.stderr)
        found = re.search(r".*out of memory.*", output, re.IGNORECASE)
        raise RuntimeError(found[0].strip() if found else output.strip().splitlines()[-1])
    return output


if __name__ == "__main__":
    main()
