"""Trains a model, under the deepspeed launcher or as a single process."""

import argparse
import sys
from pathlib import Path

from md2dist.config import load_words
from md2dist.console import run_command
from md2dist.distributed.agreement import check_agreement, exit_on_all_ranks
from md2dist.distributed.signals import EXIT_PREEMPTED
from md2dist.distributed.watchdog import Watchdog
from md2dist.distributed.world import init_distributed, shutdown_distributed
from md2dist.runs.run_dir import lock_run_dir, open_run_dir, start_logging
from md2dist.runs.wandb_log import check_account
from md2dist.training.loop import build_model, train
from md2dist.training.resolved_settings import annotate
from md2dist.training.setup import agreed_values, set_up_run


def parse_arguments() -> list[str]:
    """Gives the words that make the configuration."""
    parser = argparse.ArgumentParser(description=__doc__)
    # --config takes all words that follow it, so overrides may stand anywhere.
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
    parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)  # from the launcher
    arguments = parser.parse_args()
    return [*arguments.config, *arguments.overrides]


def main() -> None:
    """Parses, prepares together with the other ranks, and trains."""
    words = parse_arguments()
    world = init_distributed()
    try:
        with Watchdog(world) as watchdog:
            with exit_on_all_ranks(world):
                config = load_words(words)
                run_dir = Path(config.log.run_dir)
                if world.is_main:
                    check_account(config.log.wandb_mode)
                    lock_run_dir(run_dir)  # before anybody looks for the newest checkpoint
            with exit_on_all_ranks(world):
                setup = set_up_run(config, world.world_size, world.local_rank, world.node_size)
                model = build_model(config, setup, world.is_main)
            with exit_on_all_ranks(world):
                remedy = "all need the same shards, settings and log.run_dir"
                check_agreement(world, remedy, config=config, **agreed_values(setup))
                if world.is_main:  # now that nothing is wrong
                    settings = annotate(config, setup.resolved)
                    starts_over = config.checkpoint.resume == "never"
                    open_run_dir(run_dir, settings, starts_over=starts_over)
            start_logging(config.log.run_dir, world)
            is_finished = train(config, setup, model, world, watchdog)
    finally:
        shutdown_distributed()
    sys.exit(0 if is_finished else EXIT_PREEMPTED)


if __name__ == "__main__":
    run_command(main)
