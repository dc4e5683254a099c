"""Choice between few large kernels, as a GPU needs, and small steps that stay in a CPU's cache."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_is_forced = False


def prefers_few_kernels(device: torch.device) -> bool:
    """Whether a computation runs as few kernels on whole batches.

    Each kernel of a GPU costs its host some microseconds. A CPU is faster sample by sample.

    Args:
        device: device of the computation.
    """
    return device.type != "cpu" or _is_forced


@contextmanager
def few_kernels_everywhere() -> Iterator[None]:
    """Computes on a CPU as on a GPU, to count kernels and to test; not for NaN coordinates."""
    global _is_forced
    before, _is_forced = _is_forced, True
    try:
        yield
    finally:
        _is_forced = before


def is_forced() -> bool:
    """Whether a CPU computes as a GPU would, without checks for which a GPU would be waited for."""
    return _is_forced
