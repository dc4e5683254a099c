"""Means over the steps between two log lines, without synchronising with the device."""

import time

import torch

from md2dist.distributed.world import sum_over_ranks
from md2dist.training.host_copy import HostCopy


class Meter:
    """Accumulates device tensors over steps; the means reach the host one step later.

    Args:
        world_size: number of ranks, for the mean over them.
    """

    def __init__(self, world_size: int):
        self._world_size = world_size
        self._total: torch.Tensor | None = None
        self.num_steps = 0
        self.waited = 0.0  # seconds of waiting for data, added by the caller
        self._seconds = 0.0
        self._start = time.perf_counter()

    def restart_clock(self) -> None:
        """Excludes the time since the last step, spent on saving and validation."""
        self._start = time.perf_counter()

    def add(self, values: torch.Tensor) -> None:
        """Adds one step's values, (N,) on the device."""
        self._total = values if self._total is None else self._total + values
        self.num_steps += 1
        now = time.perf_counter()
        self._seconds, self._start = self._seconds + now - self._start, now

    def flush(self) -> "DelayedMeans":
        """Starts the copy of the means over steps and ranks to the host, and resets the meter."""
        assert self._total is not None
        mean = sum_over_ranks(self._total) / (self.num_steps * self._world_size)
        delayed = DelayedMeans(mean, self.num_steps, self._seconds, self.waited)
        self._total, self.num_steps, self._seconds, self.waited = None, 0, 0.0, 0.0
        return delayed


class DelayedMeans:
    """Means being copied to the host while the device continues.

    Args:
        mean: (N,) on the device.
        num_steps: number of steps averaged.
        seconds: wall-clock time of those steps.
        waited: the part of it in which the step waited for data.
    """

    def __init__(self, mean: torch.Tensor, num_steps: int, seconds: float, waited: float):
        self.num_steps, self.seconds, self.waited = num_steps, seconds, waited
        self._mean = HostCopy(mean)

    def read(self) -> list[float]:
        """Returns the means; waits for the copy alone."""
        return self._mean.read()
