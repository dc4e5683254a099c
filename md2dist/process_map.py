"""Parallel map over processes, without hangs and orphaned workers."""

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from md2dist.errors import ConfigError, ShardError
from md2dist.parent_process import end_with_parent, holding_termination

Job = TypeVar("Job")
Result = TypeVar("Result")


def map_in_processes(
    function: Callable[[Job], Result], jobs: Sequence[Job], num_processes: int
) -> Iterator[Result]:
    """Applies a function to all jobs and yields the results in the order of the jobs.

    Args:
        function: a module-level function, so that it can be pickled.
        jobs: arguments of the function, one per call.
        num_processes: number of worker processes; 1 runs all jobs in this process.

    Raises:
        ConfigError: if `num_processes` is less than 1.
        ShardError: if a worker process dies. Errors of `function` are raised unchanged.
    """
    if num_processes < 1:
        raise ConfigError(f"--processes {num_processes}: expected >= 1")
    if num_processes == 1:
        yield from map(function, jobs)
        return
    # Spawned, not forked: a fork would copy locks that other threads of the caller hold.
    context = multiprocessing.get_context("spawn")
    ignores_interrupts = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # in the background
    pool = ProcessPoolExecutor(
        num_processes, context, initializer=_begin_worker, initargs=(ignores_interrupts,)
    )
    try:
        with _holding_interrupts(), holding_termination():
            results = pool.map(function, jobs)
        yield from results
    except BrokenProcessPool:
        raise ShardError(
            "a worker process died, possibly out of memory; try fewer --processes"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _holding_interrupts() -> Iterator[None]:
    """Defers Ctrl-C, also in the processes started inside, until they can exit silently."""
    if threading.current_thread() is not threading.main_thread():  # only it handles Ctrl-C
        yield
        return
    held: list[object] = []  # interrupts that other threads received
    handler = signal.signal(signal.SIGINT, lambda *interrupt: held.append(interrupt))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited by workers
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
    if held:
        signal.raise_signal(signal.SIGINT)


def _begin_worker(ignores_interrupts: bool) -> None:
    """Makes a worker exit with its parent, and silently at Ctrl-C, which the command reports."""
    signal.signal(signal.SIGINT, signal.SIG_IGN if ignores_interrupts else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    end_with_parent()
