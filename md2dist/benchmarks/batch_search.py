"""Search for the largest micro-batch whose training step fits into the memory of the device."""

import multiprocessing
import os
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from md2dist.benchmarks.steps import check_repeats, describe_conditions, prepare_step, time_call
from md2dist.config import Config
from md2dist.distributed.world import init_distributed, shutdown_distributed
from md2dist.errors import ConfigError, MachineLimitError
from md2dist.machine_limits import free_memory
from md2dist.training.schedule import PUBLISHED_BATCH_SIZE, learning_rate

_USED = 0.95  # share of the free memory; the rest is for NCCL, validation and fragmentation
_LARGEST_GROWTH = 4  # of a batch from one trial to the next, until one is known not to fit
_MOST = 4096
_NUM_WARM_UP = 2


class Trial(NamedTuple):
    """Some steps with one micro-batch, in a process of their own."""

    size: int  # of the micro-batch
    peak: int  # bytes that the process needed at most
    seconds: float  # median of a step


def find_batch(
    config: Config, num_steps: int, num_ranks: int, memory_gib: float | None
) -> list[dict[str, Any]]:
    """Trains with larger and larger micro-batches, each in a process of its own, on random images.

    Args:
        config: sizes, views and precision; the batch is replaced, accumulation is 1.
        num_steps: number of timed steps of each micro-batch.
        num_ranks: of the training for which the global batch and the rate are given.
        memory_gib: memory of each rank in GiB; None: 95 % of what is free on this device.

    Returns:
        A row for each micro-batch that fits, with the global batch of all ranks and its rate in
        proportion; the last one is the largest.

    Raises:
        ConfigError: if a number is not positive, or a launcher has started several ranks.
        MachineLimitError: if not even one sample fits.
    """
    check_repeats(num_steps)
    if int(os.environ.get("WORLD_SIZE") or 1) > 1:
        raise ConfigError(
            "--find-batch is started as one process; --num-ranks tells the ranks of the training"
        )
    for option, value in (("--num-ranks", num_ranks), ("--memory-gib", memory_gib)):
        if value is not None and not value > 0:
            raise ConfigError(f"{option} {value}: expected > 0")
    capacity = int(memory_gib * 2**30) if memory_gib else _find_capacity()

    def attempt(size: int) -> Trial | None:
        # A fresh process has neither memory nor fragments of the trial before.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, context) as pool:
            try:
                return pool.submit(_train, config, size, num_steps, capacity).result()
            except (torch.OutOfMemoryError, BrokenProcessPool):  # the latter: killed by the kernel
                return None

    trials = search_largest(attempt, capacity)
    if not trials:
        raise MachineLimitError(
            f"a training step of one sample does not fit into {capacity / 2**30:.2f} GiB of "
            "memory; set smaller data.height and data.width, or network.num_layers"
        )
    return [_describe(trial, config, num_ranks, capacity) for trial in trials]


def search_largest(attempt: Callable[[int], Trial | None], capacity: int) -> list[Trial]:
    """Finds the largest size that fits, from few trials, since memory grows about linearly.

    Args:
        attempt: tries a size; None: it did not fit.
        capacity: bytes.

    Returns:
        The trials that fit, by size; empty if 1 does not.
    """
    fitting: list[Trial] = []
    size, too_large = 1, _MOST + 1
    while size < too_large:
        trial = attempt(size)
        if trial is None or trial.peak > capacity:
            too_large = size
        else:
            fitting.append(trial)
        if not fitting or fitting[-1].size + 1 == too_large:
            break
        size = _guess(fitting, capacity, too_large)
    return fitting


def _guess(fitting: list[Trial], capacity: int, too_large: int) -> int:
    """Returns the next size to try: the one that should just fit; `too_large` if none should."""
    last = fitting[-1]
    if len(fitting) == 1:
        return last.size + 1
    before = fitting[-2]
    growth = max((last.peak - before.peak) / (last.size - before.size), 1.0)
    more = int((capacity - last.peak) / growth)
    if more == 0:
        return too_large
    limit = last.size * _LARGEST_GROWTH if too_large > _MOST else (last.size + too_large) // 2
    return min(last.size + more, limit, too_large - 1)


def _find_capacity() -> int:
    if not torch.cuda.is_available():
        return int(_USED * free_memory())
    free, _ = torch.cuda.mem_get_info()
    return int(_USED * free)


def _train(config: Config, size: int, num_steps: int, capacity: int) -> Trial:
    """Trains with a micro-batch; on a GPU, allocates no more than the capacity."""
    optim = replace(
        config.optim, micro_batch_size=size, global_batch_size=None, grad_accum_steps=None
    )
    world = init_distributed()
    try:
        is_gpu = world.device.type == "cuda"
        if is_gpu:
            _, total = torch.cuda.mem_get_info(world.device)
            torch.cuda.set_per_process_memory_fraction(min(capacity / total, 1.0), world.device)
        take_step = prepare_step(replace(config, optim=optim), world, num_steps)
        for number in range(_NUM_WARM_UP):
            take_step(number)
        times = [time_call(lambda n=n: take_step(n), world.device) for n in range(num_steps)]
    finally:
        shutdown_distributed()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if is_gpu:
        peak = torch.cuda.max_memory_reserved(world.device)
    return Trial(size, peak, sorted(times)[len(times) // 2])


def _describe(trial: Trial, config: Config, num_ranks: int, capacity: int) -> dict[str, Any]:
    total = trial.size * num_ranks
    optim = replace(
        config.optim,
        lr_batch_size=config.optim.lr_batch_size or PUBLISHED_BATCH_SIZE,
        warmup_steps=0,
    )
    return {
        "benchmark": "find-batch",
        "micro_batch_size": trial.size,
        "samples_per_second_per_rank": trial.size / trial.seconds,
        "peak_memory_gib": trial.peak / 2**30,
        "memory_gib": capacity / 2**30,
        "ranks": num_ranks,
        "global_batch_size": total,
        "lr_batch_size": optim.lr_batch_size,
        "learning_rate": learning_rate(optim, total, epoch=0, step=0, num_steps=1),
        **describe_conditions(config),
    }
