"""A map over processes that neither hangs nor leaves anybody behind."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from md2dist.errors import ConfigError, ShardError

Job = TypeVar("Job")
Result = TypeVar("Result")


def map_in_processes(
    function: Callable[[Job], Result], jobs: Sequence[Job], num_processes: int
) -> Iterator[Result]:
    """Applies a function to all jobs and yields the results in the jobs' order.

    Args:
        function: a function of a module, so that it can be sent to another process.
        jobs: its arguments.
        num_processes: jobs under way at the same time; 1 stays in this process.

    Raises:
        ConfigError: if there would be no process.
        ShardError: if a process dies. What `function` raises is raised here.
    """
    if num_processes < 1:
        raise ConfigError(f"--processes {num_processes}: expected 1 or more")
    if num_processes == 1:
        yield from map(function, jobs)
        return
    # Spawned, not forked: a fork would copy the locks of whatever threads the caller runs.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_processes, context, initializer=_end_with_parent)
    try:
        yield from pool.map(function, jobs)
    except BrokenProcessPool:
        raise ShardError(
            "a packing process died, perhaps for want of memory; try fewer --processes"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Lets a worker die with the command, which may be killed without a chance to say so."""

    def wait() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
