"""Torch's DistributedDataParallel in place of DeepSpeed, as a yardstick."""

from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from md2dist.config import Config
from md2dist.distributed.world import World
from md2dist.errors import ConfigError
from md2dist.model import MonodepthModel
from md2dist.records import Batch, StepOutput
from md2dist.training.batch_plan import BatchPlan
from md2dist.training.engine import make_optimizer
from md2dist.training.gradient_guard import GradientGuard


class DdpEngine:
    """The part of DeepSpeed's engine that a training step uses, without checkpoints.

    Args:
        model: moved to the world's device.
        config: all settings.
        plan: the batch sizes.
        world: this process, connected.

    Raises:
        ConfigError: if a setting asks for what it does not do.
    """

    def __init__(self, model: MonodepthModel, config: Config, plan: BatchPlan, world: World):
        unsupported = {
            "gradient accumulation": plan.grad_accum_steps > 1,
            "precision.dtype=fp16": config.precision.dtype == "fp16",
            "precision.compile": config.precision.compile,
            "network.use_sync_batchnorm": config.network.use_sync_batchnorm,
            "settings of deepspeed": config.deepspeed != type(config.deepspeed)(),
        }
        if names := [name for name, is_set in unsupported.items() if is_set]:
            raise ConfigError(f"--engine ddp takes no {' or '.join(names)}; omit it")
        self.module = model.to(world.device)
        self.optimizer = make_optimizer(model, config.optim)
        self.guard = GradientGuard(self.optimizer, world.device)
        self._parallel = DistributedDataParallel(model, gradient_as_bucket_view=True)

    def __call__(self, batch: Batch, *, noise_seed: int) -> StepOutput:
        """Runs the model forward."""
        return self._parallel(batch, noise_seed=noise_seed)

    def backward(self, loss: torch.Tensor) -> None:
        """Computes the gradients of the loss ()."""
        loss.backward()

    def step(self) -> None:
        """Updates the weights."""
        self.optimizer.step()
        self.optimizer.zero_grad()

    def train(self) -> Any:
        """Puts the model into training mode."""
        return self._parallel.train()
