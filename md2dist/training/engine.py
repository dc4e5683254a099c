"""DeepSpeed's engine around the model, with its optimizer and guard."""

import logging
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist

from md2dist.config import Config
from md2dist.distributed.world import World
from md2dist.model import MonodepthModel
from md2dist.training.batch_plan import BatchPlan
from md2dist.training.deepspeed_config import make_deepspeed_config
from md2dist.training.gradient_guard import GradientGuard
from md2dist.training.sync_batchnorm import synchronise_batchnorm


def make_engine(
    model: MonodepthModel, config: Config, plan: BatchPlan, world: World
) -> tuple[Any, GradientGuard]:
    """Wraps a model with its losses in DeepSpeed's engine.

    Args:
        model: float32; moved to the world's device, and given rank 0's weights and buffers.
        config: all settings.
        plan: the batch sizes.
        world: this process, connected.

    Returns:
        The engine, and the guard that watches its optimizer.
    """
    import deepspeed  # late: it looks for accelerators at once, and takes seconds

    deepspeed.utils.logger.setLevel(logging.WARNING)
    if world.device.type == "cpu":
        # It would compile an operation for inference at its first start, for a minute or more; a
        # job that is killed meanwhile leaves a lock on which all later ones wait.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if config.network.use_sync_batchnorm and world.world_size > 1:
        synchronise_batchnorm(model, world.device)
    model.to(world.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.optim.lr, fused=True)
    zero_stage = config.deepspeed.zero_stage
    guard = GradientGuard(
        optimizer,
        world.device,
        initial_scale=config.precision.initial_loss_scale
        if config.precision.dtype == "fp16"
        else None,
        is_partitioned=zero_stage > 0,
    )
    engine, *_ = deepspeed.initialize(
        # It would take the device of the local rank's number, which a task of its own may not see.
        args=SimpleNamespace(device_rank=world.device.index or 0),
        model=model,
        optimizer=optimizer,
        config=make_deepspeed_config(plan, zero_stage),
        dist_init_required=False,
    )
    for buffer in model.buffers():  # DeepSpeed sends the parameters only
        dist.broadcast(buffer, src=0)
    return engine, guard
