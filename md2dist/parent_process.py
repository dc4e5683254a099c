"""Worker processes that end with the process that started them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_PERIOD_S = 1.0


@contextmanager
def holding_termination() -> Iterator[None]:
    """Holds back SIGTERM in this thread, and for good in the processes that it starts inside.

    A worker inherits it for every thread. Blocked by the worker itself, it would still end the
    worker through a thread that a library has started before.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def end_with_parent() -> None:
    """Ends this worker process, which multiprocessing started, once its parent has ended.

    It also ends at a SIGTERM of its parent, but at no other: a scheduler that ends a job signals
    every process, while the parent still needs its workers for what it saves. A thread does this,
    so a worker that waits for data ends too. The parent starts it inside `holding_termination`.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    assert parent.pid is not None
    threading.Thread(target=_wait_for_end, args=(parent.pid,), daemon=True).start()


def _wait_for_end(parent: int) -> None:
    # Not multiprocessing's sentinel: workers that were forked later keep it open.
    while os.getppid() == parent:
        received = signal.sigtimedwait({signal.SIGTERM}, _PERIOD_S)
        if received is not None and received.si_pid == parent:
            break
    os._exit(0)
