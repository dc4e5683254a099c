"""One optimizer step."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from md2dist.config import Config
from md2dist.data.augment import augment, draw_augmentation
from md2dist.records import Batch, FrameBatch, StepOutput
from md2dist.training.batch_plan import BatchPlan
from md2dist.training.batchnorm import RunningStatistics
from md2dist.training.gradient_guard import GradientGuard
from md2dist.training.schedule import learning_rate
from md2dist.training.world import World


class StepResult(NamedTuple):
    """What a step leaves for the log, on the device."""

    losses: torch.Tensor  # (1 + num_scales,): loss and scale_losses, mean over this rank's share
    gradient_norm: torch.Tensor  # (), over all ranks; not finite where the step was skipped
    batch: Batch  # the last micro-batch
    output: StepOutput  # of the last micro-batch


class TrainingStep:
    """Everything that happens between two positions of the weights.

    Args:
        engine: DeepSpeed's engine around a MonodepthModel.
        guard: watches the engine's gradients.
        config: all settings.
        plan: the batch sizes.
        world: this process.
    """

    def __init__(
        self, engine: Any, guard: GradientGuard, config: Config, plan: BatchPlan, world: World
    ):
        self.engine, self.guard = engine, guard
        self._config, self._plan, self._world = config, plan, world
        self._statistics = RunningStatistics(engine.module)

    def __call__(self, batches: Iterator[FrameBatch], epoch: int, step: int) -> StepResult:
        """Takes this rank's share of one global batch and moves the weights once.

        Args:
            batches: yields the micro-batches of this step, then those of the next.
            epoch: counted from 0; with the sample's number it seeds the augmentation.
            step: counted from the run's start; with the micro-batch's number it seeds the noise.
        """
        for group in self.engine.optimizer.param_groups:
            group["lr"] = learning_rate(self._config.optim, epoch)
        losses = []
        for accum_index in range(self._plan.grad_accum_steps):
            batch = self._augment(next(batches), epoch)
            micro_batch = accum_index * self._world.world_size + self._world.rank
            output = self.engine(batch, noise_seed=self._noise_seed(step, micro_batch))
            self.engine.backward(self.guard.scale_loss(output.loss))
            losses.append(torch.cat([output.loss.detach()[None], output.scale_losses.detach()]))
            self.engine.step()
        self._statistics.average()
        return StepResult(torch.stack(losses).mean(0), self.guard.norm, batch, output)

    def _augment(self, frames: FrameBatch, epoch: int) -> Batch:
        data = self._config.data
        draw = draw_augmentation(
            self._config.seed,
            epoch,
            frames.sample_id.tolist(),
            use_flip=data.use_flip,
            use_color_jitter=data.use_color_jitter,
        )
        on_device = FrameBatch(*(part.to(self._world.device, non_blocking=True) for part in frames))
        return augment(on_device, draw, use_true_intrinsics=data.use_true_intrinsics)

    def _noise_seed(self, step: int, micro_batch: int) -> int:
        sequence = np.random.SeedSequence([self._config.seed, step, micro_batch])
        return int(sequence.generate_state(1, np.uint64)[0] >> 1)  # torch takes 63 bits
