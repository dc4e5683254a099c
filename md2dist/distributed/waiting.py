"""Waiting for other processes: reports what is missing, and ends this process at a time limit."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from md2dist.console import print_error
from md2dist.distributed.failure import end_process

logger = logging.getLogger(__name__)

CONNECTION_REMEDY = (
    "check that no firewall is between the nodes, and that GLOO_SOCKET_IFNAME or "
    "NCCL_SOCKET_IFNAME names the network that connects them"
)
_TIMEOUT_S = 600.0  # nodes of a job may start minutes apart
_FIRST_LINE_S, _LINE_S = 10.0, 60.0


class Wait:
    """Subject of a wait; the waiting code may change it.

    Args:
        subject: what is missing, e.g. ``"rank 1"``.
    """

    def __init__(self, subject: str):
        self.subject = subject


@contextmanager
def waiting_for(subject: str, remedy: str, *, is_quiet: bool = False) -> Iterator[Wait]:
    """Watches a block that waits for other processes, even inside a library without a time limit.

    It logs what is missing after 10 s, and then every minute. After 10 minutes it ends the process
    with exit code 2.

    Args:
        subject: what is missing at first.
        remedy: what to check, for the last message.
        is_quiet: whether another process of this node reports the same.
    """
    wait, done = Wait(subject), threading.Event()

    def watch() -> None:
        began, pause = time.monotonic(), _FIRST_LINE_S
        while not done.wait(pause):
            waited = time.monotonic() - began
            if waited >= _TIMEOUT_S:
                if not is_quiet:
                    print_error(
                        f"gave up waiting for {wait.subject} after {waited:.0f} s; {remedy}"
                    )
                end_process(2)
            if not is_quiet:
                logger.warning("waiting for %s", wait.subject)
            pause = min(_LINE_S, _TIMEOUT_S - waited)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield wait
    finally:
        done.set()
