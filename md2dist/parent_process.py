"""Worker processes that end with the process that started them."""

import multiprocessing
import os
import signal
import threading

_PERIOD_S = 1.0


def end_with_parent() -> None:
    """Ends this worker process, which multiprocessing started, once its parent has ended.

    It also ends at a SIGTERM of its parent, but at no other: a scheduler that ends a job signals
    every process, while the parent still needs its workers for what it saves. A thread does this,
    so a worker that waits for data ends too.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    assert parent.pid is not None
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_wait_for_end, args=(parent.pid,), daemon=True).start()


def _wait_for_end(parent: int) -> None:
    # Not multiprocessing's sentinel: workers that were forked later keep it open.
    while os.getppid() == parent:
        received = signal.sigtimedwait({signal.SIGTERM}, _PERIOD_S)
        if received is not None and received.si_pid == parent:
            break
    os._exit(0)
