"""Start-up of a training run in order, from the arguments to the first step, and its end."""

import dataclasses
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from md2dist.config import Config, DataConfig, LogConfig, load_words, public_settings
from md2dist.data.loading.read_plan import plan_reading
from md2dist.data.loading.worker_limits import check_workers
from md2dist.data.shards.recipe import view_names
from md2dist.distributed.agreement import check_agreement, exit_on_all_ranks
from md2dist.distributed.devices import advise_on_gpu, describe_devices
from md2dist.distributed.job import join_job
from md2dist.distributed.watchdog import Watchdog
from md2dist.distributed.world import World, cores_per_rank
from md2dist.model import MonodepthModel
from md2dist.runs.process_log import start_logging
from md2dist.runs.progress import Progress
from md2dist.runs.run_dir import lock_run_dir, open_run_dir
from md2dist.runs.run_log import RunLog
from md2dist.runs.start_log import Start, append_start
from md2dist.runs.system_usage import sampling_usage
from md2dist.runs.wandb.log import WandbLog
from md2dist.runs.wandb.mode import choose_mode
from md2dist.runs.wandb.names import choose_project
from md2dist.storage.addresses import public_setting
from md2dist.training.engine import load_states, make_engine
from md2dist.training.loop import choose_workers, train
from md2dist.training.resolved_settings import annotate, describe
from md2dist.training.resume_check import check_networks, describe_changes
from md2dist.training.run_summary import summarise_run
from md2dist.training.schedule import advise_on_rate
from md2dist.training.setup import RunSetup, agreed_values, set_up_run
from md2dist.training.start.plan import check_space
from md2dist.training.start.record import describe_start
from md2dist.weights import initialise
from md2dist.weights.run_folder import import_checkpoint

logger = logging.getLogger(__name__)

AGREEMENT = "all ranks need the same shards, settings and log.run_dir"


def run(arguments: Sequence[str]) -> bool:
    """Starts or resumes a run together with the other ranks, and trains.

    Args:
        arguments: configuration files and `key=value` overrides.

    Returns:
        Whether the run is finished; otherwise it was stopped, and is saved.
    """
    with join_job() as (world, watchdog):
        return start_and_train(arguments, world, watchdog)


def start_and_train(arguments: Sequence[str], world: World, watchdog: Watchdog) -> bool:
    """Checks everything that can be checked before the first step, then trains; see `run`."""
    start = time.monotonic()
    sys.argv[1:] = public_setting(sys.argv[1:])  # which W&B stores
    with exit_on_all_ranks(world):
        config = load_words(arguments)
        run_dir = Path(config.log.run_dir)
        wandb_mode, wandb_report = "disabled", ""  # on the other ranks
        if world.is_main:
            wandb_mode, wandb_report = choose_mode(config.log.wandb_mode)
            lock_run_dir(run_dir)  # before any rank searches the newest checkpoint
    with exit_on_all_ranks(world):
        setup = set_up_run(config, world.topology())
        check_limits(config.data, setup, world)
        model = build_model(config)
        load_first_weights(model, config, setup, world)
        space_advice = check_space(config, setup, model)
    with exit_on_all_ranks(world):
        check_agreement(world, AGREEMENT, config=config, **agreed_values(setup))
        if world.is_main:  # the first files are written when every check has passed
            starts_over = config.checkpoint.resume == "never"
            open_run_dir(run_dir, annotate(config, setup.state.resolved), starts_over=starts_over)
    start_logging(config.log.run_dir, world)
    if world.is_main:
        for advice in filter(None, (wandb_report, space_advice)):
            logger.warning("%s", advice)
    start_record = describe_start(sys.argv[1:], config, setup, world) if world.is_main else None
    wandb = _open_wandb(config, setup, wandb_mode, start_record)
    if start_record is not None:
        append_start(run_dir, start_record)
    progress = Progress(setup.last_step, setup.order.num_steps, config.optim.num_epochs)
    log = RunLog(run_dir, wandb, world.is_main, setup.first_step, progress)
    watchdog.report_to(run_dir / "logs" / f"rank-{world.rank}.log", on_failure=log.fail)
    log.follow(watchdog.activity)
    # A start with W&B switched off keeps the id of the run there.
    wandb_id = wandb.run_id or setup.state.wandb_id
    setup = setup._replace(state=dataclasses.replace(setup.state, wandb_id=wandb_id))
    engine, guard = make_engine(model, config, setup.plan, world)
    if setup.checkpoint is not None:
        load_states(engine, setup.checkpoint, world)
        guard.restore(setup.checkpoint.state.guard)
    log_start(config, setup, world)
    log.advance(setup.first_step)
    with sampling_usage(world, is_on=config.log.wandb_system) as take_usage:
        log.include(take_usage)
        end = train(config, setup, engine, guard, log, world, watchdog)
    log.check_files()
    log.close("finished" if end.is_finished else "preempted", end.early_end)
    for line in summarise_run(config, log.step, end, time.monotonic() - start):
        logger.info("%s", line)
    return end.is_finished


def check_limits(data: DataConfig, setup: RunSetup, world: World) -> None:
    """Checks that the machine lets the loader's workers work; see `check_workers`."""
    num_views = len(view_names(data.frame_offsets, data.use_stereo))
    shape = (setup.plan.micro_batch_size, num_views, data.height, data.width, 3)
    check_workers(setup.train_set, setup.topology, choose_workers(data, world), shape)


def build_model(config: Config) -> MonodepthModel:
    """Builds the model, with random weights."""
    torch.manual_seed(config.seed)
    return MonodepthModel.from_config(config)


def load_first_weights(
    model: MonodepthModel, config: Config, setup: RunSetup, world: World
) -> None:
    """Loads the weights of the first step on the main rank: the engine broadcasts them.

    Raises:
        WeightsError: if a weight file is missing or belongs to another network.
        CheckpointError: if the run was started with other networks.
    """
    if world.is_main and setup.checkpoint is None:
        network = config.network
        initialise(model, network.weights, network.init_from, network.init_networks)
    elif world.is_main and setup.checkpoint is not None:
        # DeepSpeed's own loading would not report which weights do not fit.
        check_networks(model, setup.checkpoint.folder)
        import_checkpoint(model, setup.checkpoint.folder)


def log_start(config: Config, setup: RunSetup, world: World) -> None:
    """Logs the devices, the position, changed settings and what `auto` and null resolved to."""
    first_step, last_step = setup.first_step, setup.last_step
    logger.info("computing on %s", describe_devices(world))
    for advice in filter(None, (advise_on_gpu(world.device), advise_on_workers(config, world))):
        logger.warning("%s", advice)
    if setup.checkpoint is not None:
        logger.info("resuming at step %d from %s", first_step, setup.checkpoint.folder)
        for change in describe_changes(setup.checkpoint, config, setup.state.resolved):
            logger.info("changed since then: %s", change)
    logger.info("resolved: %s", describe(setup.state.resolved))
    advice = advise_on_rate(config.optim, setup.plan.global_batch_size, world.world_size)
    if advice is not None and setup.checkpoint is None:
        logger.info("%s", advice)
    if setup.early_end:
        logger.info(
            "nothing left to train: %s; raise it, or set it to null, to train further",
            setup.early_end,
        )
    elif first_step >= last_step:
        limits = f"optim.num_epochs={config.optim.num_epochs}"
        if config.optim.max_steps is not None:
            limits += f", optim.max_steps={config.optim.max_steps}"
        logger.info(
            "nothing left to train: step %d is done, and the run ends at step %d; raise %s to "
            "train further",
            first_step,
            last_step,
            limits,
        )
    logger.info("an epoch: %d steps of %d samples, %d left out", setup.order.num_steps,
                setup.plan.global_batch_size, setup.order.num_dropped)  # fmt: skip
    epoch, _ = setup.order.position(first_step)
    reading = plan_reading(setup.train_set, setup.order, epoch, setup.topology)
    logger.info("each node reads per epoch: %s", reading)


def advise_on_workers(config: Config, world: World) -> str | None:
    """Returns advice if the loader has more processes than a rank has cores."""
    num_workers, num_cores = config.data.num_workers, cores_per_rank(world.node_size)
    if num_workers is None or num_workers <= num_cores:
        return None
    return f"data.num_workers={num_workers} is more than the cores of a rank, {num_cores}"


def _open_wandb(config: Config, setup: RunSetup, mode: str, start: Start | None) -> WandbLog:
    """Opens the W&B run; code, machine and data of the start are its origin."""
    project = choose_project(config.log.wandb_project, LogConfig.wandb_project)
    settings = public_settings(config) | {"resolved": setup.state.resolved}
    names = ("versions", "host", "devices", "num_ranks", "train_shards", "val_shards")
    origin = {name: getattr(start, name) for name in names} if start else {}
    run_dir = Path(config.log.run_dir)
    return WandbLog(mode, project, run_dir, setup.state.wandb_id, settings, origin)
