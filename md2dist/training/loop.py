"""A run: steps, and what happens between them."""

import dataclasses
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from md2dist.config import Config
from md2dist.data.loading.loader import make_loader
from md2dist.data.loading.read_plan import ReadPlan, plan_reading
from md2dist.distributed.channel import Channel
from md2dist.distributed.devices import describe_devices, has_unusable_gpu
from md2dist.distributed.step_barrier import StepBarrier
from md2dist.distributed.watchdog import Watchdog
from md2dist.distributed.world import World
from md2dist.errors import ShardError
from md2dist.model import MonodepthModel
from md2dist.records import FrameBatch
from md2dist.runs.checkpoint import load_checkpoint
from md2dist.runs.run_log import RunLog
from md2dist.runs.wandb_log import WandbLog
from md2dist.training.background_reader import BackgroundReader
from md2dist.training.checkpoint_and_validation import CheckpointAndValidation
from md2dist.training.engine import make_engine
from md2dist.training.reporter import Reporter
from md2dist.training.resolved_settings import describe
from md2dist.training.resume_check import describe_changes
from md2dist.training.schedule import advise_on_rate
from md2dist.training.setup import RunSetup
from md2dist.training.skipped_steps import SkippedSteps
from md2dist.training.step import TrainingStep
from md2dist.weights import initialise
from md2dist.weights.run_folder import import_checkpoint

logger = logging.getLogger(__name__)


def build_model(config: Config, setup: RunSetup, is_main: bool) -> MonodepthModel:
    """Builds the model, on the main rank with its weights: the engine spreads them.

    Raises:
        WeightsError: if a weight file is missing or belongs to another network.
    """
    torch.manual_seed(config.seed)
    model = MonodepthModel.from_config(config)
    if is_main and setup.checkpoint is None:
        initialise(model, config.network.weights, config.network.init_from)
    elif is_main and setup.checkpoint is not None:
        # The engine would not tell what does not fit.
        import_checkpoint(model, setup.checkpoint, is_resuming=True)
    return model


def train(
    config: Config, setup: RunSetup, model: MonodepthModel, world: World, watchdog: Watchdog
) -> bool:
    """Trains from the set-up position to the end, or until it is asked to stop.

    All ranks call it.

    Args:
        config: all settings.
        setup: the checked parts of the run.
        model: with its first weights, on the CPU.
        world: this process, connected.
        watchdog: of this process, entered.

    Returns:
        Whether the run has come to its end; else it is saved where it stopped.
    """
    run_dir = Path(config.log.run_dir)
    wandb_id = setup.facts.get("wandb_id")
    wandb = _open_wandb(config, setup.resolved, wandb_id, world)
    log = RunLog(run_dir, wandb, world.is_main, setup.first_step, setup.last_step)
    watchdog.report_to(run_dir / "logs" / f"rank-{world.rank}.log", on_failure=log.fail)
    engine, guard = make_engine(model, config, setup.plan, world)
    if setup.checkpoint is not None:
        load_checkpoint(engine, setup.checkpoint)
        guard.restore(setup.facts["guard"])
    log_start(config, setup, world)
    engine.train()
    take_step = TrainingStep(engine, guard, config, setup.plan, world)
    report = Reporter(log, config, setup.plan, world)
    skipped = SkippedSteps(
        config.optim.max_skipped_steps, partial(_keys_of, setup, world), world.is_main
    )
    # A life without W&B does not forget the run there.
    wandb_id = wandb.run_id or wandb_id
    checkpoints = CheckpointAndValidation(
        engine, guard, config, setup, report, wandb_id, world, watchdog
    )
    watchdog.set_hang_timeout(config.log.hang_timeout_s)
    checkpoints.before_first_step()
    logger.info("%s", setup.order)
    logger.info("a node reads per epoch: %s", _plan_reading(setup, world))
    num_done, epoch = setup.first_step, 0
    for micro_batches in report.timed(_data_of_steps(config, setup, world, watchdog)):
        epoch, _ = setup.order.position(num_done)
        result = take_step(micro_batches, epoch, num_done)
        num_done += 1
        report.after_step(num_done, epoch, result)
        skipped.after_step(num_done - 1, result.flags)
        checkpoints.after_step(num_done, epoch)
    skipped.flush()
    is_finished = num_done >= setup.last_step and not checkpoints.owes_validation
    if not is_finished:
        checkpoints.before_stop(num_done, epoch)
    log.close("finished" if is_finished else "preempted")
    return is_finished


def log_start(config: Config, setup: RunSetup, world: World) -> None:
    """Tells where the run goes on and on what, what has changed, and what was left open."""
    first_step, last_step = setup.first_step, setup.last_step
    logger.info("computing on %s", describe_devices(world))
    if has_unusable_gpu(world.device):
        logger.warning(
            "this machine has a GPU, but torch %s finds none, and the training takes many times as "
            "long: see that the job was given it, and that torch is a build for CUDA which fits "
            "the driver",
            torch.__version__,
        )
    if setup.checkpoint is not None:
        logger.info("going on at step %d from %s", first_step, setup.checkpoint)
        saved, before = setup.checkpoint / "config.yaml", setup.facts.get("resolved", {})
        for change in describe_changes(saved, config, before, setup.resolved):
            logger.info("changed since then: %s", change)
    logger.info("resolved: %s", describe(setup.resolved))
    advice = advise_on_rate(config.optim, setup.plan.global_batch_size, world.world_size)
    if advice is not None and setup.checkpoint is None:
        logger.info("%s", advice)
    if first_step >= last_step:
        limits = f"optim.num_epochs={config.optim.num_epochs}"
        if config.optim.max_steps is not None:
            limits += f", optim.max_steps={config.optim.max_steps}"
        logger.info(
            "nothing is left to train: step %d is done, and the run ends at step %d; raise what "
            "ends it (%s) to go on",
            first_step,
            last_step,
            limits,
        )


def _data_of_steps(
    config: Config, setup: RunSetup, world: World, watchdog: Watchdog
) -> Iterator[list[FrameBatch]]:
    """Yields this rank's micro-batches of each step that all ranks begin."""
    step_barrier = StepBarrier(Channel.connect(), world.world_size)
    reader = BackgroundReader(_open_loader(config, setup, world), world.device)
    for step in range(setup.first_step, setup.last_step):
        watchdog.report_progress(f"reading the data of step {step}")
        micro_batches = reader.take(setup.plan.grad_accum_steps, watchdog.is_stopping)
        if micro_batches is not None:
            watchdog.report_progress(f"at step {step}")
        if not step_barrier.wait(step, has_data=micro_batches is not None):
            return
        assert micro_batches is not None
        yield micro_batches


def _keys_of(setup: RunSetup, world: World, step: int, rank: int) -> Iterator[str]:
    """The keys of a rank's samples in a step; their numbers where they cannot be read."""
    place, num_accum = setup.order.position(step), setup.plan.grad_accum_steps
    for index in range(num_accum):
        ids = setup.order.rank_ids(*place, rank, world.world_size, index, num_accum)
        for sample in ids.tolist():
            try:
                yield setup.train_set.raw(sample)["__key__"]
            except ShardError:
                yield f"sample {sample}"


def _plan_reading(setup: RunSetup, world: World) -> ReadPlan:
    first_of_node = world.rank - world.local_rank
    return plan_reading(
        setup.train_set,
        setup.order,
        setup.order.position(setup.first_step)[0],
        ranks=range(first_of_node, min(first_of_node + world.node_size, world.world_size)),
        world_size=world.world_size,
        num_accum=setup.plan.grad_accum_steps,
    )


def _open_loader(config: Config, setup: RunSetup, world: World) -> Any:
    data = config.data
    return make_loader(
        setup.train_set,
        setup.order,
        frame_offsets=data.frame_offsets,
        use_stereo=data.use_stereo,
        micro_batch_size=setup.plan.micro_batch_size,
        num_accum=setup.plan.grad_accum_steps,
        rank=world.rank,
        world_size=world.world_size,
        start_step=setup.first_step,
        end_step=setup.last_step,
        num_workers=data.num_workers,
        prefetch_batches=data.prefetch_batches,
        ranks_per_node=world.node_size,
        use_true_intrinsics=data.use_true_intrinsics,
        pin_memory=world.device.type == "cuda",
    )


def _open_wandb(
    config: Config, resolved: dict[str, Any], run_id: str | None, world: World
) -> WandbLog:
    mode = config.log.wandb_mode if world.is_main else "disabled"
    settings = dataclasses.asdict(config) | {"resolved": resolved}
    return WandbLog(mode, config.log.wandb_project, Path(config.log.run_dir), run_id, settings)
