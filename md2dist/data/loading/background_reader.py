"""Background reader: an iterable read in a thread, so that waiting for it can be interrupted."""

import threading
import time
from collections.abc import Callable, Iterable
from queue import Empty, Queue
from typing import Generic, TypeVar

import torch

from md2dist.errors import Md2distError

Item = TypeVar("Item")
_POLL_S = 0.2  # between two checks whether to keep waiting
_STOP_S = 3.0  # a stop that ends workers is known to this process at the latest after this time


class BackgroundReader(Generic[Item]):
    """Returns the items of an iterable in groups.

    Args:
        items: iterated in a thread that the first `take` starts.
        device: set as the thread's current device if it is a GPU, to which pinned memory belongs.
    """

    def __init__(self, items: Iterable[Item], device: torch.device):
        self._items, self._device = items, device
        self._queue: Queue[Item | BaseException] = Queue(maxsize=1)
        self._thread = threading.Thread(target=self._read, name="reader", daemon=True)

    def take(self, num_items: int, is_stopping: Callable[[], bool]) -> list[Item] | None:
        """Waits for the next items.

        Args:
            num_items: number of items; at least as many must be left.
            is_stopping: called while no item is available; True interrupts the wait.

        Returns:
            The items, or None if the wait was interrupted or the iterable failed during a stop,
            which may end its workers; items received by then are lost.

        Raises:
            BaseException: any exception of the iterable.
        """
        if self._thread.ident is None:
            self._thread.start()
        group: list[Item] = []
        while len(group) < num_items:
            try:
                item = self._queue.get(timeout=_POLL_S)
            except Empty:
                if is_stopping():
                    return None
                continue
            if isinstance(item, BaseException):
                if _becomes_true(is_stopping, 0 if isinstance(item, Md2distError) else _STOP_S):
                    return None
                raise item
            group.append(item)
        return group

    def _read(self) -> None:
        try:
            if self._device.type == "cuda":
                torch.cuda.set_device(self._device)
            for item in self._items:
                self._queue.put(item)
        except BaseException as error:  # raised by `take`
            self._queue.put(error)


def _becomes_true(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether a condition holds now or within some seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True
