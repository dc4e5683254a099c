"""A run: steps, and what happens between them."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from md2dist.config import Config
from md2dist.data.loader import make_loader
from md2dist.model import MonodepthModel
from md2dist.training.checkpoint import load_checkpoint, save_checkpoint
from md2dist.training.engine import make_engine
from md2dist.training.preflight import Preparation
from md2dist.training.reporter import Reporter
from md2dist.training.run_log import RunLog
from md2dist.training.step import TrainingStep
from md2dist.training.validation import validate
from md2dist.training.wandb_log import WandbLog
from md2dist.training.world import World
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
        import_checkpoint(model, prepared.checkpoint)  # the engine would not tell what does not fit
    return model


def train(config: Config, prepared: Preparation, model: MonodepthModel, world: World) -> None:
    """Trains from the prepared position to the end; all ranks call it.

    Args:
        config: all settings.
        prepared: the checked parts of the run.
        model: with its first weights, on the CPU.
        world: this process, connected.
    """
    run_dir = Path(config.log.run_dir)
    plan, order, val_set = prepared.plan, prepared.order, prepared.val_set
    engine, guard = make_engine(model, config, plan, world)
    if prepared.checkpoint is not None:
        load_checkpoint(engine, prepared.checkpoint)
        guard.restore(prepared.facts["guard"])
        logger.info("going on at step %d from %s", prepared.first_step, prepared.checkpoint)
    engine.train()
    take_step = TrainingStep(engine, guard, config, plan, world)
    wandb = _open_wandb(config, prepared.facts.get("wandb_id"), world)
    log = RunLog(run_dir, wandb, world.is_main, prepared.first_step, prepared.last_step)
    report = Reporter(log, config, plan, world)

    def save(num_done: int) -> None:
        facts = {
            "step": num_done,
            "seed": config.seed,
            "global_batch_size": plan.global_batch_size,
            "window_shards": config.data.window_shards,
            "shard_digest": prepared.train_set.manifest.digest,
            "zero_stage": config.deepspeed.zero_stage,
            "world_size": world.world_size,
            "guard": guard.state(),
            "wandb_id": wandb.run_id,
        }
        text = OmegaConf.to_yaml(OmegaConf.structured(config))
        save_checkpoint(engine, run_dir / "checkpoints", facts, text, config.checkpoint.keep, world)

    try:
        batches = report.timed(iter(_open_loader(config, prepared, world)))
        for step in range(prepared.first_step, prepared.last_step):
            epoch, step_in_epoch = order.position(step)
            result = take_step(batches, epoch, step)
            num_done = step + 1
            report.after_step(num_done, epoch, result)
            is_last = num_done == prepared.last_step
            is_epoch_end = step_in_epoch == order.num_steps - 1
            if is_epoch_end or is_last or _is_due(num_done, config.checkpoint.every_steps):
                report.settle(num_done, epoch)
                save(num_done)
                if (is_epoch_end or is_last) and val_set is not None:
                    report.after_validation(num_done, validate(model, val_set, world))
                report.go_on()
    except BaseException as error:
        log.close("failed", f"{type(error).__name__}: {error}")
        raise
    log.close("finished")


def _is_due(num_done: int, every: int | None) -> bool:
    return every is not None and num_done % every == 0


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
        use_true_intrinsics=data.use_true_intrinsics,
        pin_memory=world.device.type == "cuda",
    )


def _open_wandb(config: Config, run_id: str | None, world: World) -> WandbLog:
    mode = config.log.wandb_mode if world.is_main else "disabled"
    settings = dataclasses.asdict(config)
    return WandbLog(mode, config.log.wandb_project, Path(config.log.run_dir), run_id, settings)
