"""Command-line options that several commands have."""

import argparse
from pathlib import Path
from typing import NoReturn

from md2dist.console import make_presentable


class CommandParser(argparse.ArgumentParser):
    """Parser of a command line, which quotes no secrets and no control characters of it."""

    def error(self, message: str) -> NoReturn:
        """Prints the error and exits with code 2."""
        super().error(make_presentable(message))


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Adds `--checkpoint`, a path for `load_model`."""
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        help="run folder (its newest checkpoint), checkpoint folder such as "
        "RUN/checkpoints/best, or folder of published weights",
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


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Adds `--overwrite`, which lets results replace files that md2dist did not write."""
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace existing files of the same names, also those that md2dist did not write",
    )


def add_local_rank(parser: argparse.ArgumentParser) -> None:
    """Adds the option that launchers pass to each process, whose variables say the same."""
    parser.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)
