"""A job: its ranks join, and are watched until they end together."""

from collections.abc import Iterator
from contextlib import contextmanager

from md2dist.distributed.watchdog import Watchdog
from md2dist.distributed.world import World, connect_ranks, meet_ranks, shutdown_distributed


@contextmanager
def join_job() -> Iterator[tuple[World, Watchdog]]:
    """Joins this process to its job; inside the block it is connected with all ranks and watched.

    Raises:
        ConfigError: if this process does not belong to the job at its address, or does not find it.
    """
    world, store = meet_ranks()
    try:
        with Watchdog(world) as watchdog:
            connect_ranks(world, store)
            yield world, watchdog
    finally:
        shutdown_distributed()
