"""A map over processes that neither hangs nor leaves anybody behind."""

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from md2dist.errors import ConfigError, ShardError
from md2dist.parent_process import end_with_parent

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
    is_deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # as in a script's background
    pool = ProcessPoolExecutor(
        num_processes, context, initializer=_begin_worker, initargs=(is_deaf,)
    )
    try:
        with _holding_interrupts():
            results = pool.map(function, jobs)
        yield from results
    except BrokenProcessPool:
        raise ShardError(
            "one of the processes died, perhaps for want of memory; try fewer --processes"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _holding_interrupts() -> Iterator[None]:
    """Lets Ctrl-C wait, also in processes that begin here, until they can take it in silence."""
    if threading.current_thread() is not threading.main_thread():  # which alone has Ctrl-C
        yield
        return
    held: list[object] = []  # what other threads of this process let through
    handler = signal.signal(signal.SIGINT, lambda *interrupt: held.append(interrupt))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
    if held:
        signal.raise_signal(signal.SIGINT)


def _begin_worker(is_deaf: bool) -> None:
    """Lets a worker end at Ctrl-C without a word, which the command has, and with the command."""
    signal.signal(signal.SIGINT, signal.SIG_IGN if is_deaf else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    end_with_parent()
