"""Command-line options that select a trained model and its precision."""

import argparse
from pathlib import Path


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Adds `--checkpoint`, a path for `load_model`."""
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        help="a run's folder (its newest checkpoint), one of its checkpoints such as "
        "RUN/checkpoints/best, or a folder of published weights",
    )


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """Adds `--dtype`, a type for `load_model`."""
    parser.add_argument(
        "--dtype",
        choices=["auto", "fp32", "bf16", "fp16"],
        default="auto",
        help="data type of the networks; auto: precision.dtype of the run (if auto: bf16 if "
        "this machine has bf16 instructions, else fp32), fp32 for published weights",
    )
