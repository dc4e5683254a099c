"""Sender: a thread that makes calls to W&B in order, so that none of them delays the training."""

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread


class Sender:
    """Makes calls one after another in a thread, which starts with the first of them.

    W&B encodes pictures, hashes files and asks its server in some of its functions.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: Thread | None = None

    def submit(self, call: Callable[[], None]) -> None:
        """Makes a call, which raises nothing, after all earlier ones; returns at once."""
        if self._thread is None:
            self._thread = Thread(target=self._work, name="wandb-sender", daemon=True)
            self._thread.start()
        self._calls.put(call)

    def close(self, timeout_s: float) -> bool:
        """Waits once until all calls are made, and returns whether they are."""
        thread, self._thread = self._thread, None
        if thread is None:
            return True
        self._calls.put(None)
        thread.join(timeout_s)
        return not thread.is_alive()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
