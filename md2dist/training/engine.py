"""DeepSpeed's engine around the model, with its optimizer and guard."""

import logging
from types import SimpleNamespace
from typing import Any, Protocol, cast

import torch
import torch.distributed as dist

from md2dist.config import Config
from md2dist.distributed.world import World
from md2dist.model import MonodepthModel
from md2dist.records import Batch, StepOutput
from md2dist.runs.checkpoint import CheckpointEngine
from md2dist.training.batch_plan import BatchPlan
from md2dist.training.deepspeed_config import make_deepspeed_config
from md2dist.training.gradient_guard import GradientGuard
from md2dist.training.sync_batchnorm import synchronise_batchnorm


class Engine(CheckpointEngine, Protocol):
    """The part of DeepSpeed's engine that training uses."""

    module: MonodepthModel
    optimizer: torch.optim.Optimizer

    def __call__(self, batch: Batch, *, noise_seed: int) -> StepOutput:
        """Runs the model forward."""
        ...

    def backward(self, loss: torch.Tensor) -> Any:
        """Adds the gradients of one micro-batch, divided by the accumulation steps."""

    def step(self) -> Any:
        """Ends a micro-batch; the last one of a step updates the weights."""

    def train(self) -> Any:
        """Puts the model into training mode."""


def make_engine(
    model: MonodepthModel, config: Config, plan: BatchPlan, world: World
) -> tuple[Engine, GradientGuard]:
    """Wraps a model with its losses in DeepSpeed's engine.

    Args:
        model: float32; moved to the world's device; receives rank 0's weights and buffers.
        config: all settings.
        plan: the batch sizes.
        world: this process, connected.

    Returns:
        The engine, and the gradient guard of its optimizer.
    """
    import deepspeed  # late: importing it takes seconds and searches for accelerators

    deepspeed.utils.logger.setLevel(logging.WARNING)
    if world.device.type == "cpu":
        # DeepSpeed would compile an inference operation at its first start, for a minute or more;
        # a job killed meanwhile leaves a lock file on which all later jobs wait.
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
        # By default it uses the device numbered as the local rank, which this task may not see.
        args=SimpleNamespace(device_rank=world.device.index or 0),
        model=model,
        optimizer=optimizer,
        config=make_deepspeed_config(plan, zero_stage),
        dist_init_required=False,
    )
    for buffer in model.buffers():  # DeepSpeed broadcasts the parameters only
        dist.broadcast(buffer, src=0)
    return cast(Engine, engine), guard
