"""Start-up of a training run in order, from the arguments to the first step, and its end."""

import dataclasses
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from md2dist.config import Config, DataConfig, load_words, public_settings
from md2dist.data.loading.read_plan import plan_reading
from md2dist.data.loading.worker_limits import check_workers
from md2dist.data.shards.recipe import view_names
from md2dist.distributed.agreement import check_agreement, exit_on_all_ranks
from md2dist.distributed.devices import describe_devices, has_unusable_gpu
from md2dist.distributed.job import join_job
from md2dist.distributed.watchdog import Watchdog
from md2dist.distributed.world import World, cores_per_rank
from md2dist.model import MonodepthModel
from md2dist.runs.run_dir import lock_run_dir, open_run_dir, start_logging
from md2dist.runs.run_log import RunLog
from md2dist.runs.wandb_log import WandbLog
from md2dist.runs.wandb_mode import choose_mode
from md2dist.storage.addresses import public_setting
from md2dist.storage.open_store import is_url
from md2dist.training.engine import load_states, make_engine
from md2dist.training.loop import choose_workers, train
from md2dist.training.resolved_settings import annotate, describe
from md2dist.training.resume_check import check_networks, describe_changes
from md2dist.training.schedule import advise_on_rate
from md2dist.training.setup import RunSetup, agreed_values, set_up_run
from md2dist.weights import initialise
from md2dist.weights.run_folder import import_checkpoint

logger = logging.getLogger(__name__)


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
        model = build_model(config, setup, world.is_main)
    with exit_on_all_ranks(world):
        remedy = "all ranks need the same shards, settings and log.run_dir"
        check_agreement(world, remedy, config=config, **agreed_values(setup))
        if world.is_main:  # the first files are written when every check has passed
            starts_over = config.checkpoint.resume == "never"
            open_run_dir(run_dir, annotate(config, setup.state.resolved), starts_over=starts_over)
    start_logging(config.log.run_dir, world)
    if wandb_report:
        logger.warning("%s", wandb_report)
    wandb = _open_wandb(config, setup, wandb_mode)
    log = RunLog(run_dir, wandb, world.is_main, setup.first_step, setup.last_step)
    watchdog.report_to(run_dir / "logs" / f"rank-{world.rank}.log", on_failure=log.fail)
    # A start with W&B switched off keeps the id of the run there.
    wandb_id = wandb.run_id or setup.state.wandb_id
    setup = setup._replace(state=dataclasses.replace(setup.state, wandb_id=wandb_id))
    engine, guard = make_engine(model, config, setup.plan, world)
    if setup.checkpoint is not None:
        load_states(engine, setup.checkpoint, world)
        guard.restore(setup.checkpoint.state.guard)
    log_start(config, setup, world)
    log.advance(setup.first_step)
    is_finished = train(config, setup, engine, guard, log, world, watchdog)
    log.check_files()
    log.close("finished" if is_finished else "preempted")
    logger.info("%s", describe_end(config, log.step, is_finished=is_finished))
    return is_finished


def check_limits(data: DataConfig, setup: RunSetup, world: World) -> None:
    """Checks that the machine lets the loader's workers work; see `check_workers`."""
    num_views = len(view_names(data.frame_offsets, data.use_stereo))
    shape = (setup.plan.micro_batch_size, num_views, data.height, data.width, 3)
    check_workers(setup.train_set, setup.topology, choose_workers(data, world), shape)


def build_model(config: Config, setup: RunSetup, is_main: bool) -> MonodepthModel:
    """Builds the model, with its weights on the main rank: the engine broadcasts them.

    Raises:
        WeightsError: if a weight file is missing or belongs to another network.
        CheckpointError: if the run was started with other networks.
    """
    torch.manual_seed(config.seed)
    model = MonodepthModel.from_config(config)
    if is_main and setup.checkpoint is None:
        network = config.network
        initialise(model, network.weights, network.init_from, network.init_networks)
    elif is_main and setup.checkpoint is not None:
        # DeepSpeed's own loading would not report which weights do not fit.
        check_networks(model, setup.checkpoint.folder)
        import_checkpoint(model, setup.checkpoint.folder)
    return model


def log_start(config: Config, setup: RunSetup, world: World) -> None:
    """Logs the devices, the position, changed settings and what `auto` and null resolved to."""
    first_step, last_step = setup.first_step, setup.last_step
    logger.info("computing on %s", describe_devices(world))
    if has_unusable_gpu(world.device):
        logger.warning(
            "this machine has a GPU, but torch %s does not find it, and training on the CPU takes "
            "many times as long: check that the job was allocated the GPU, and that torch is a "
            "CUDA build that fits the driver",
            torch.__version__,
        )
    num_workers, num_cores = config.data.num_workers, cores_per_rank(world.node_size)
    if num_workers is not None and num_workers > num_cores:
        logger.warning(
            "data.num_workers=%d is more than the cores of a rank, %d", num_workers, num_cores
        )
    if setup.checkpoint is not None:
        logger.info("resuming at step %d from %s", first_step, setup.checkpoint.folder)
        for change in describe_changes(setup.checkpoint, config, setup.state.resolved):
            logger.info("changed since then: %s", change)
    logger.info("resolved: %s", describe(setup.state.resolved))
    advice = advise_on_rate(config.optim, setup.plan.global_batch_size, world.world_size)
    if advice is not None and setup.checkpoint is None:
        logger.info("%s", advice)
    if first_step >= last_step:
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
    logger.info("%s", setup.order)
    epoch, _ = setup.order.position(first_step)
    reading = plan_reading(setup.train_set, setup.order, epoch, setup.topology)
    logger.info("each node reads per epoch: %s", reading)


def describe_end(config: Config, step: int, *, is_finished: bool) -> str:
    """Describes how a run ended and what to do next."""
    if not is_finished:
        return f"saved at step {step}; the same command resumes"
    val_shards = config.data.val_shards
    shards = "SHARDS" if val_shards is None or is_url(val_shards) else val_shards
    words = ["md2dist", "evaluate", "--checkpoint", config.log.run_dir, "--shards", shards]
    return f"finished at step {step}; next: {shlex.join(words)}"


def _open_wandb(config: Config, setup: RunSetup, mode: str) -> WandbLog:
    settings = public_settings(config) | {"resolved": setup.state.resolved}
    run_dir = Path(config.log.run_dir)
    return WandbLog(mode, config.log.wandb_project, run_dir, setup.state.wandb_id, settings)
