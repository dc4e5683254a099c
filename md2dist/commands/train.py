"""Trains a model, under the deepspeed launcher or as a single process.

    deepspeed -q --module md2dist.commands.train --config FILE data.train_shards=DIR
    md2dist train --config FILE data.train_shards=DIR

The same command resumes the run.
"""

import argparse
import sys

from md2dist.commands.options.common import CommandParser, add_local_rank
from md2dist.config.reference import describe_settings
from md2dist.console import run_command, write_lines
from md2dist.distributed.signals import EXIT_PREEMPTED


def parse_arguments() -> argparse.Namespace:
    """Parses the command line."""
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
        help="settings that override the files, e.g. optim.lr=1e-4; --settings lists all",
    )
    parser.add_argument(
        "--settings",
        nargs="?",
        const="",
        metavar="WORD",
        help="print all settings, or those with a word in name or meaning, and exit",
    )
    parser.add_argument(
        "--dry-run",
        nargs="?",
        type=int,
        metavar="STEPS",
        help="check everything that a start checks, print its plan, and exit with 0 or 2; nothing "
        "is trained or written. --dry-run=10 times 10 steps as well, and keeps nothing of them",
    )
    add_local_rank(parser)
    # Without a number, the option does not take the word that follows it.
    words = ["--dry-run=0" if word == "--dry-run" else word for word in sys.argv[1:]]
    arguments = parser.parse_args(words)
    if arguments.dry_run is not None and arguments.dry_run < 0:
        parser.error(f"--dry-run={arguments.dry_run}: expected a number of steps >= 0")
    return arguments


def main() -> None:
    """Trains; exits with 0 if the run finished, with EXIT_PREEMPTED if it was stopped."""
    arguments = parse_arguments()
    if arguments.settings is not None:
        write_lines(describe_settings(arguments.settings))
        return
    words = [*arguments.config, *arguments.overrides]
    if arguments.dry_run is not None:
        from md2dist.training.start.dry_run import dry_run

        sys.exit(0 if dry_run(words, arguments.dry_run) else 2)
    from md2dist.training.run import run  # late: it imports torch and DeepSpeed, for seconds

    is_finished = run(words)
    sys.exit(0 if is_finished else EXIT_PREEMPTED)


if __name__ == "__main__":
    run_command(main)
