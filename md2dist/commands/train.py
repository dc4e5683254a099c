"""Trains a model, under the deepspeed launcher or as a single process."""

import sys

from md2dist.commands.options import CommandParser, add_local_rank
from md2dist.console import run_command
from md2dist.distributed.signals import EXIT_PREEMPTED


def parse_arguments() -> list[str]:
    """Returns the configuration files and overrides of the command line."""
    parser = CommandParser(description=__doc__)
    # --config takes all arguments that follow it, so overrides may appear anywhere.
    parser.add_argument(
        "--config",
        nargs="+",
        default=[],
        metavar="FILE",
        help="YAML config files; later ones override earlier ones",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="settings that override the files, e.g. optim.lr=1e-4; md2dist/config.py lists all",
    )
    add_local_rank(parser)
    arguments = parser.parse_args()
    return [*arguments.config, *arguments.overrides]


def main() -> None:
    """Trains; exits with 0 if the run finished, with EXIT_PREEMPTED if it was stopped."""
    words = parse_arguments()
    from md2dist.training.run import run  # late: it imports torch and DeepSpeed, for seconds

    is_finished = run(words)
    sys.exit(0 if is_finished else EXIT_PREEMPTED)


if __name__ == "__main__":
    run_command(main)
