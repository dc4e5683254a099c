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
from md2dist.distributed.devices import describe_devices, misses_gpu
from md2dist.distributed.step_barrier import Lockstep
from md2dist.distributed.watchdog import Watch
from md2dist.distributed.world import World, connect_store
from md2dist.errors import ShardError
from md2dist.model import MonodepthModel
from md2dist.records import FrameBatch
from md2dist.runs.checkpoint import load_checkpoint
from md2dist.runs.run_log import RunLog
from md2dist.runs.wandb_log import WandbLog
from md2dist.training.background_reader import BackgroundReader
from md2dist.training.checkpoint_and_validation import Milestones
from md2dist.training.engine import make_engine
from md2dist.training.reporter import Reporter
from md2dist.training.resolved_settings import describe
from md2dist.training.resume_check import describe_changes
from md2dist.training.schedule import advise_on_rate
from md2dist.training.setup import Preparation
from md2dist.training.skipped_steps import SkippedSteps
from md2dist.training.step import TrainingStep
from md2dist.weights import initialise
from md2dist.weights.run_folder import import_checkpoint

logger = logging.getLogger(__name__)


def build_model(config: Config, prepared: Preparation, is_main: bool) -> MonodepthModel:
    """Builds the model, on the main rank with its weights: the engine spreads them.

    Raises:
        WeightsError: if a weight file is missing or belongs to another network.
    """
    torch.manual_seed(config.seed)
    model = MonodepthModel.from_config(config)
    if is_main and prepared.checkpoint is None:
        initialise(model, config.network.weights, config.network.init_from)
    elif is_main and prepared.checkpoint is not None:
        # The engine would not tell what does not fit.
        import_checkpoint(model, prepared.checkpoint, is_resuming=True)
    return model


def train(
    config: Config, prepared: Preparation, model: MonodepthModel, world: World, watch: Watch
) -> bool:
    """Trains from the prepared position to the end, or until it is asked to stop.

    All ranks call it.

    Args:
        config: all settings.
        prepared: the checked parts of the run.
        model: with its first weights, on the CPU.
        world: this process, connected.
        watch: of this process, entered.

    Returns:
        Whether the run has come to its end; else it is saved where it stopped.
    """
    run_dir = Path(config.log.run_dir)
    wandb_id = prepared.facts.get("wandb_id")
    wandb = _open_wandb(config, prepared.resolved, wandb_id, world)
    log = RunLog(run_dir, wandb, world.is_main, prepared.first_step, prepared.last_step)
    watch.report_to(run_dir / "logs" / f"rank-{world.rank}.log", on_failure=log.fail)
    engine, guard = make_engine(model, config, prepared.plan, world)
    if prepared.checkpoint is not None:
        load_checkpoint(engine, prepared.checkpoint)
        guard.restore(prepared.facts["guard"])
    _tell_start(config, prepared, world)
    engine.train()
    take_step = TrainingStep(engine, guard, config, prepared.plan, world)
    report = Reporter(log, config, prepared.plan, world)
    skipped = SkippedSteps(
        config.optim.max_skipped_steps, partial(_keys_of, prepared, world), world.is_main
    )
    # A life without W&B does not forget the run there.
    wandb_id = wandb.run_id or wandb_id
    milestones = Milestones(engine, guard, config, prepared, report, wandb_id, world, watch)
    watch.limit_standstill(config.log.hang_timeout_s)
    milestones.before_first_step()
    logger.info("%s", prepared.order)
    logger.info("a node reads per epoch: %s", _plan_reading(prepared, world))
    num_done, epoch = prepared.first_step, 0
    for micro_batches in report.timed(_data_of_steps(config, prepared, world, watch)):
        epoch, _ = prepared.order.position(num_done)
        result = take_step(micro_batches, epoch, num_done)
        num_done += 1
        report.after_step(num_done, epoch, result)
        skipped.after_step(num_done - 1, result.flags)
        milestones.after_step(num_done, epoch)
    skipped.settle()
    is_finished = num_done >= prepared.last_step and not milestones.owes_validation
    if not is_finished:
        milestones.before_stop(num_done, epoch)
    log.close("finished" if is_finished else "preempted")
    return is_finished


def _tell_start(config: Config, prepared: Preparation, world: World) -> None:
    """Tells where the run goes on and on what, what has changed, and what was left open."""
    first_step, last_step = prepared.first_step, prepared.last_step
    logger.info("computing on %s", describe_devices(world))
    if misses_gpu(world.device):
        logger.warning(
            "this machine has a GPU, but torch %s finds none, and the training takes many times as "
            "long: see that the job was given it, and that torch is a build for CUDA which fits "
            "the driver",
            torch.__version__,
        )
    if prepared.checkpoint is not None:
        logger.info("going on at step %d from %s", first_step, prepared.checkpoint)
        saved, before = prepared.checkpoint / "config.yaml", prepared.facts.get("resolved", {})
        for change in describe_changes(saved, config, before, prepared.resolved):
            logger.info("changed since then: %s", change)
    logger.info("resolved: %s", describe(prepared.resolved))
    advice = advise_on_rate(config.optim, prepared.plan.global_batch_size, world.world_size)
    if advice is not None and prepared.checkpoint is None:
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
    config: Config, prepared: Preparation, world: World, watch: Watch
) -> Iterator[list[FrameBatch]]:
    """Yields this rank's micro-batches of each step that all ranks begin."""
    lockstep = Lockstep(connect_store(), world.world_size)
    reader = BackgroundReader(_open_loader(config, prepared, world), world.device)
    for step in range(prepared.first_step, prepared.last_step):
        watch.note(f"reading the data of step {step}")
        micro_batches = reader.take(prepared.plan.grad_accum_steps, watch.is_stopping)
        if micro_batches is not None:
            watch.note(f"at step {step}")
        if not lockstep.begin(step, has_data=micro_batches is not None):
            return
        assert micro_batches is not None
        yield micro_batches


def _keys_of(prepared: Preparation, world: World, step: int, rank: int) -> Iterator[str]:
    """The keys of a rank's samples in a step; their numbers where they cannot be read."""
    place, num_accum = prepared.order.position(step), prepared.plan.grad_accum_steps
    for index in range(num_accum):
        ids = prepared.order.rank_ids(*place, rank, world.world_size, index, num_accum)
        for sample in ids.tolist():
            try:
                yield prepared.train_set.raw(sample)["__key__"]
            except ShardError:
                yield f"sample {sample}"


def _plan_reading(prepared: Preparation, world: World) -> ReadPlan:
    first_of_node = world.rank - world.local_rank
    return plan_reading(
        prepared.train_set,
        prepared.order,
        prepared.order.position(prepared.first_step)[0],
        ranks=range(first_of_node, min(first_of_node + world.node_size, world.world_size)),
        world_size=world.world_size,
        num_accum=prepared.plan.grad_accum_steps,
    )


def _open_loader(config: Config, prepared: Preparation, world: World) -> Any:
    data = config.data
    return make_loader(
        prepared.train_set,
        prepared.order,
        frame_offsets=data.frame_offsets,
        use_stereo=data.use_stereo,
        micro_batch_size=prepared.plan.micro_batch_size,
        num_accum=prepared.plan.grad_accum_steps,
        rank=world.rank,
        world_size=world.world_size,
        start_step=prepared.first_step,
        end_step=prepared.last_step,
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
