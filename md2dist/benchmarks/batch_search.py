"""Search for the largest micro-batch whose training step fits into the memory of the device."""

import multiprocessing
import os
import resource
import signal
from collections.abc import Callable
from dataclasses import replace
from math import isfinite
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch

from md2dist.benchmarks.steps import check_repeats, describe_conditions, prepare_step, time_call
from md2dist.config import Config
from md2dist.distributed.world import World, init_distributed, shutdown_distributed
from md2dist.errors import ConfigError, MachineLimitError, Md2distError
from md2dist.machine_limits import free_memory, is_out_of_memory
from md2dist.training.schedule import PUBLISHED_BATCH_SIZE, learning_rate

_USED = 0.95  # share of the free memory; the rest is for NCCL, libraries and validation
_LARGEST_GROWTH = 4  # of a batch from one trial to the next, until one is known not to fit
_SMALLEST_GROWTH = 1 / 32  # likewise, where nothing more should fit
_MOST = 4096
_NUM_WARM_UP = 2


class Trial(NamedTuple):
    """Some steps with one micro-batch, in a process of their own."""

    size: int  # of the micro-batch
    peak: int  # bytes that the process needed at most
    capacity: int  # bytes that it might use
    seconds: float  # median of a step


Train = Callable[[Config, int, int, int | None], Trial]


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
        if value is not None and not (value > 0 and isfinite(value)):
            raise ConfigError(f"{option} {value}: expected a finite number > 0")
    limit = int(memory_gib * 2**30) if memory_gib else None
    trials = search_largest(lambda size: attempt(_train, config, size, num_steps, limit))
    if not trials:
        memory = f"{memory_gib:g} GiB of memory" if memory_gib else "the memory that is free"
        raise MachineLimitError(
            f"a training step of one sample does not fit into {memory}; set smaller data.height "
            "and data.width, or network.num_layers"
        )
    return [_describe(trial, config, num_ranks) for trial in trials]


def attempt(
    train: Train, config: Config, size: int, num_steps: int, limit: int | None
) -> Trial | None:
    """Trains in a new process, which has neither memory nor fragments of an earlier trial.

    Args:
        train: called there with the other arguments, which are those of `find_batch`.
        config: see there.
        size: of the micro-batch.
        num_steps: see there.
        limit: bytes of memory; None: 95 % of what is free.

    Returns:
        What `train` returns, or None if the memory did not suffice.

    Raises:
        Md2distError: of `train`.
        MachineLimitError: if the process died for another reason.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(sender, train, config, size, num_steps, limit))
    process.start()
    sender.close()  # the other end is the only one now, so its end is seen
    try:
        outcome = receiver.recv()
    except EOFError:
        process.join()
        if process.exitcode == -signal.SIGKILL:  # by the kernel, which has no more memory
            return None
        raise MachineLimitError(
            f"the process that trained with micro-batches of {size} ended with exit code "
            f"{process.exitcode}; its own messages say why"
        ) from None
    finally:
        process.kill()
        process.join()
    if isinstance(outcome, Md2distError):
        raise outcome
    return outcome


def search_largest(attempt: Callable[[int], Trial | None]) -> list[Trial]:
    """Finds the largest size that fits, from few trials, since memory grows about linearly.

    Args:
        attempt: tries a size; None: it did not fit.

    Returns:
        The trials that fit, by size; empty if 1 does not.
    """
    fitting: list[Trial] = []
    size, too_large = 1, _MOST + 1
    while size < too_large:
        trial = attempt(size)
        if trial is None or trial.peak > trial.capacity:
            too_large = size
        else:
            fitting.append(trial)
        if not fitting or fitting[-1].size + 1 == too_large:
            break
        size = _guess(fitting, too_large)
    return fitting


def _guess(fitting: list[Trial], too_large: int) -> int:
    """Returns the next size to try: the one that should just fit, or a slightly larger one."""
    last = fitting[-1]
    if len(fitting) == 1:
        return last.size + 1
    before = fitting[-2]
    growth = max((last.peak - before.peak) / (last.size - before.size), 1.0)
    # A GPU's peak includes blocks that it could free, so more may fit than it shows.
    more = int((last.capacity - last.peak) / growth) or max(int(last.size * _SMALLEST_GROWTH), 1)
    limit = last.size * _LARGEST_GROWTH if too_large > _MOST else (last.size + too_large) // 2
    return min(last.size + more, limit, too_large - 1)


def _report(connection: Connection, train: Train, *arguments: Any) -> None:
    """Sends the outcome of a trial: itself, None for too little memory, or the user's error."""
    outcome: Trial | Md2distError | None
    try:
        outcome = train(*arguments)
    except Md2distError as error:
        outcome = error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        outcome = None
    connection.send(outcome)


def _limit_memory(world: World, limit: int | None) -> int:
    """Returns the bytes that a training may use; a GPU then gives this process no more.

    Raises:
        ConfigError: if the limit exceeds the memory of the GPU.
    """
    if world.device.type != "cuda":
        return int(_USED * free_memory()) if limit is None else limit
    free, total = torch.cuda.mem_get_info(world.device)
    if limit is not None and limit > total:
        raise ConfigError(
            f"--memory-gib {limit / 2**30:g}: this GPU has {total / 2**30:.1f} GiB; expected less"
        )
    capacity = int(_USED * free) if limit is None else limit
    torch.cuda.set_per_process_memory_fraction(capacity / total, world.device)
    return capacity


def _train(config: Config, size: int, num_steps: int, limit: int | None) -> Trial:
    """Trains with a micro-batch on random images."""
    optim = replace(
        config.optim, micro_batch_size=size, global_batch_size=None, grad_accum_steps=None
    )
    world = init_distributed()
    try:
        capacity = _limit_memory(world, limit)
        take_step = prepare_step(replace(config, optim=optim), world, num_steps)
        for number in range(_NUM_WARM_UP):
            take_step(number)
        times = [time_call(lambda n=n: take_step(n), world.device) for n in range(num_steps)]
    finally:
        shutdown_distributed()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if world.device.type == "cuda":
        peak = torch.cuda.max_memory_reserved(world.device)
    return Trial(size, peak, capacity, sorted(times)[len(times) // 2])


def _describe(trial: Trial, config: Config, num_ranks: int) -> dict[str, Any]:
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
        "memory_gib": trial.capacity / 2**30,
        "ranks": num_ranks,
        "global_batch_size": total,
        "lr_batch_size": optim.lr_batch_size,
        "learning_rate": learning_rate(optim, total, epoch=0, step=0, num_steps=1),
        **describe_conditions(config),
    }
