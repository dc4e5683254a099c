"""Asynchronous copy of a small device tensor to the host."""

from typing import Any

import torch


class HostCopy:
    """Starts the copy at once; only `read` waits, for the copy alone.

    Args:
        tensor: any shape, on any device.
    """

    def __init__(self, tensor: torch.Tensor):
        self._event: Any = None
        self._host = tensor.to("cpu", non_blocking=True)
        if tensor.is_cuda:
            self._event = torch.cuda.Event()
            self._event.record()

    def read(self) -> list[Any]:
        """Returns the values as (nested) lists."""
        if self._event is not None:
            self._event.synchronize()
        return self._host.tolist()
