"""Command-line options shared by commands that load a trained model."""

import argparse
from pathlib import Path


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Adds `--checkpoint`, a path for `load_model`."""
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        help="run folder (its newest checkpoint is used), checkpoint folder such as "
        "RUN/checkpoints/best, or folder of published weights",
    )


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """Adds `--dtype`, a dtype for `load_model`."""
    parser.add_argument(
        "--dtype",
        choices=["auto", "fp32", "bf16", "fp16"],
        default="auto",
        help="dtype of the networks; auto: precision.dtype of the run (if this is auto too: bf16 "
        "if this machine has bf16 instructions, else fp32); fp32 for published weights",
    )
