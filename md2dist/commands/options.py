"""Command-line options that several commands have."""

import argparse
from pathlib import Path


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Adds `--checkpoint` and `--weights-dir`, paths for `load_model`."""
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        help="run folder (its newest checkpoint), checkpoint folder such as "
        "RUN/checkpoints/best, folder or file of weights, or name of a published model such as "
        "mono+stereo_640x192, which is downloaded once (docs/model_zoo.md)",
    )
    parser.add_argument(
        "--weights-dir",
        type=Path,
        help="folder with the archives or extracted folders of published models, used instead of "
        "the network",
    )


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """Adds `--dtype`, a data type for `load_model`."""
    parser.add_argument(
        "--dtype",
        choices=["auto", "fp32", "bf16", "fp16"],
        default="auto",
        help="data type of the networks; auto: precision.dtype of the run (if auto: bf16 if "
        "this machine has bf16 instructions, else fp32), fp32 for published weights",
    )


def add_local_rank(parser: argparse.ArgumentParser) -> None:
    """Adds the option that launchers pass to each process, whose variables say the same."""
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)
