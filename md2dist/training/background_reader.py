"""An iterator that is read in a thread, so that waiting for it can be broken off."""

import threading
from collections.abc import Callable, Iterable
from queue import Empty, Queue
from typing import Generic, TypeVar

import torch

Item = TypeVar("Item")
_LOOK_S = 0.2  # between two looks whether to go on waiting


class BackgroundReader(Generic[Item]):
    """Hands out the items of an iterable in groups.

    Args:
        items: iterated in a thread, which is started by the first `take`.
        device: made the current device of the thread, where it is a GPU: pinned memory belongs to
            one.
    """

    def __init__(self, items: Iterable[Item], device: torch.device):
        self._items, self._device = items, device
        self._queue: Queue[Item | BaseException] = Queue(maxsize=1)
        self._thread = threading.Thread(target=self._read, name="reader", daemon=True)

    def take(self, num_items: int, is_stopping: Callable[[], bool]) -> list[Item] | None:
        """Waits for the next items.

        Args:
            num_items: how many; there must be as many left.
            is_stopping: asked while there is nothing to take.

        Returns:
            The items, or None where the waiting was broken off; what had come then is lost.

        Raises:
            BaseException: whatever the iterable raises.
        """
        if self._thread.ident is None:
            self._thread.start()
        group: list[Item] = []
        while len(group) < num_items:
            try:
                item = self._queue.get(timeout=_LOOK_S)
            except Empty:
                if is_stopping():
                    return None
                continue
            if isinstance(item, BaseException):
                raise item
            group.append(item)
        return group

    def _read(self) -> None:
        try:
            if self._device.type == "cuda":
                torch.cuda.set_device(self._device)
            for item in self._items:
                self._queue.put(item)
        except BaseException as error:  # it belongs to whoever takes
            self._queue.put(error)
