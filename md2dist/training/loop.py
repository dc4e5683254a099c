"""Training loop: steps, and the saving, validating and logging between them."""

import logging
import warnings
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from md2dist.config import Config, DataConfig
from md2dist.data.loading.background_reader import BackgroundReader
from md2dist.data.loading.loader import FrameLoader, Workers, choose_num_workers, make_loader
from md2dist.data.shards.recipe import view_names
from md2dist.distributed.host_group import HostGroup
from md2dist.distributed.step_barrier import StepBarrier
from md2dist.distributed.watchdog import Watchdog
from md2dist.distributed.world import World
from md2dist.errors import ShardError
from md2dist.records import FrameBatch
from md2dist.runs.run_log import RunLog
from md2dist.training.checkpoint_and_validation import CheckpointAndValidation
from md2dist.training.engine import Engine
from md2dist.training.gradient_guard import GradientGuard
from md2dist.training.reporter import Reporter
from md2dist.training.setup import RunSetup
from md2dist.training.skipped_steps import SkippedSteps
from md2dist.training.step import TrainingStep

logger = logging.getLogger(__name__)


class TrainingEnd(NamedTuple):
    """How a training ended."""

    is_finished: bool  # otherwise it was stopped, and is saved
    early_end: str  # why early stopping ended it; empty if it did not


def train(
    config: Config,
    setup: RunSetup,
    engine: Engine,
    guard: GradientGuard,
    log: RunLog,
    world: World,
    watchdog: Watchdog,
) -> TrainingEnd:
    """Trains from the first step of this start to the last one, or until it is stopped.

    All ranks call it.

    Args:
        config: all settings.
        setup: the checked parts of the run.
        engine: DeepSpeed's engine around the model, with the weights of the first step.
        guard: the gradient guard of its optimizer.
        log: receives metrics, pictures and progress.
        world: this process, connected.
        watchdog: of this process, entered.

    Returns:
        Whether the run is finished, and why, if early stopping ended it.
    """
    engine.train()
    take_step = TrainingStep(engine, guard, config, setup.plan, world, setup.last_step)
    report = Reporter(log, config, setup.plan, world)
    skipped = SkippedSteps(config.optim.max_skipped_steps, partial(_keys_of, setup), world.is_main)
    checkpoints = CheckpointAndValidation(engine, guard, config, setup, report, world, watchdog)
    if not config.precision.compile:  # the first step may take longer than the timeout
        watchdog.set_hang_timeout(config.log.hang_timeout_s)
    checkpoints.before_first_step()
    validator = checkpoints.validator
    num_done, epoch = setup.first_step, 0
    last_step = num_done if validator.early_end else setup.last_step
    steps = range(num_done, last_step)
    for micro_batches in report.timed(data_of_steps(config, setup, steps, world, watchdog)):
        epoch, _ = setup.order.position(num_done)
        result = take_step(micro_batches, epoch, num_done)
        if config.precision.compile and num_done == setup.first_step:
            watchdog.set_hang_timeout(config.log.hang_timeout_s)
        num_done += 1
        report.after_step(num_done, epoch, result)
        skipped.after_step(num_done - 1, result.flags)
        checkpoints.after_step(num_done, epoch)
        if validator.early_end:
            break
    skipped.flush()
    checkpoints.before_end(num_done, epoch)
    has_ended = num_done >= last_step or bool(validator.early_end)
    return TrainingEnd(has_ended and not validator.is_owed, validator.early_end)


def data_of_steps(
    config: Config, setup: RunSetup, steps: range, world: World, watchdog: Watchdog
) -> Iterator[list[FrameBatch]]:
    """Yields this rank's micro-batches of each step that all ranks begin.

    Args:
        config: all settings.
        setup: the checked parts of the run.
        steps: consecutive steps, counted over all epochs.
        world: this process, connected.
        watchdog: receives progress; its stop requests end the steps.
    """
    group = HostGroup.connect("steps", world.topology())
    step_barrier = StepBarrier(group, watchdog.is_stopping)
    reader = BackgroundReader(open_loader(config, setup, steps, world), world.device)
    for step in steps:
        watchdog.report_progress(f"reading the data of step {step}")
        micro_batches = reader.take(setup.plan.grad_accum_steps, watchdog.is_stopping)
        if micro_batches is not None:
            watchdog.report_progress(f"at step {step}")
        if not step_barrier.wait(step, has_data=micro_batches is not None):
            return
        assert micro_batches is not None
        yield micro_batches


def open_loader(
    config: Config, setup: RunSetup, steps: range, world: World, num_workers: int | None = None
) -> FrameLoader:
    """Opens the loader of this rank's micro-batches.

    Args:
        config: all settings.
        setup: the checked parts of the run.
        steps: consecutive steps, counted over all epochs.
        world: this process.
        num_workers: number of loader processes; None: as the settings say.
    """
    data, workers = config.data, choose_workers(config.data, world)
    warnings.filterwarnings("ignore", "This DataLoader will create")  # `log_start` warns once
    return make_loader(
        setup.train_set,
        setup.order,
        setup.topology,
        views=view_names(data.frame_offsets, data.use_stereo),
        steps=steps,
        workers=workers if num_workers is None else workers._replace(num_workers=num_workers),
        use_true_intrinsics=data.use_true_intrinsics,
    )


def choose_workers(data: DataConfig, world: World) -> Workers:
    """Returns the loader processes of each rank."""
    return Workers(
        choose_num_workers(data.num_workers, world.node_size),
        data.prefetch_batches,
        pin_memory=world.device.type == "cuda",
    )


def _keys_of(setup: RunSetup, step: int, rank: int) -> Iterator[str]:
    """Yields the keys of a rank's samples in a step; their numbers where they cannot be read."""
    epoch_and_step, topology = setup.order.position(step), setup.topology
    num_accum = topology.grad_accum_steps
    for index in range(num_accum):
        ids = setup.order.rank_ids(*epoch_and_step, rank, topology.world_size, index, num_accum)
        for sample in ids.tolist():
            try:
                yield setup.train_set.raw(sample)["__key__"]
            except ShardError:
                yield f"sample {sample}"
