"""Timing of the first training steps of a run, of which nothing is kept."""

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch

from md2dist.config import Config
from md2dist.distributed.watchdog import Watchdog
from md2dist.distributed.world import World
from md2dist.errors import ConfigError
from md2dist.model import MonodepthModel
from md2dist.runs.progress import show_time
from md2dist.training.engine import make_engine
from md2dist.training.loop import data_of_steps
from md2dist.training.setup import RunSetup
from md2dist.training.step import TrainingStep

_NUM_WARM_UP = 2  # steps in which memory is allocated, and workers start


class StepTimes(NamedTuple):
    """Wall-clock time of some steps."""

    num_steps: int
    seconds: float
    waited: float  # part of it in which the step waited for data


def time_steps(
    config: Config,
    setup: RunSetup,
    model: MonodepthModel,
    world: World,
    watchdog: Watchdog,
    num_steps: int,
) -> StepTimes:
    """Times steps as a start takes them, after two that are not timed; all ranks call it.

    Args:
        config: all settings.
        setup: the checked parts of the run.
        model: of the run; it is trained.
        world: this process, connected.
        watchdog: of this process, entered.
        num_steps: number of timed steps; fewer if the run has fewer left.

    Raises:
        ConfigError: if the run has too few steps left.
    """
    first, last = setup.first_step, setup.last_step
    steps = range(first, min(first + _NUM_WARM_UP + num_steps, last))
    if len(steps) <= _NUM_WARM_UP:
        raise ConfigError(
            f"{max(last - first, 0)} steps are left to train, too few to time after a warm-up of "
            f"{_NUM_WARM_UP}; raise optim.num_epochs or optim.max_steps"
        )
    engine, guard = make_engine(model, config, setup.plan, world)
    engine.train()
    take_step = TrainingStep(engine, guard, config, setup.plan, world, last)
    marks: Sequence[tuple[float, float]] = []  # before and after the wait for the data of a step
    before = time.perf_counter()
    for step, micro_batches in enumerate(data_of_steps(config, setup, steps, world, watchdog)):
        marks.append((before, time.perf_counter()))
        take_step(micro_batches, setup.order.position(first + step)[0], first + step)
        if step in (_NUM_WARM_UP - 1, len(steps) - 1) and world.device.type == "cuda":
            torch.cuda.synchronize(world.device)
        before = time.perf_counter()
    timed = marks[_NUM_WARM_UP:]
    if not timed:
        raise ConfigError("the dry run was stopped before a step could be timed")
    waited = sum(ready - asked for asked, ready in timed)
    return StepTimes(len(timed), before - timed[0][0], waited)


def describe_times(times: StepTimes, setup: RunSetup) -> str:
    """Describes measured steps, and how long an epoch and the run take at that speed."""
    per_step = times.seconds / times.num_steps
    run = (setup.last_step - setup.first_step) * per_step
    return (
        f"{times.num_steps} steps of {per_step:.3g} s: "
        f"{setup.plan.global_batch_size / per_step:.1f} samples/s, "
        f"{times.waited / times.seconds:.0%} data wait; an epoch takes "
        f"{show_time(setup.order.num_steps * per_step)}, the run {show_time(run)}, without "
        "validations"
    )
