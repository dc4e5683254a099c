"""One optimizer step."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from md2dist.config import Config
from md2dist.data.loading.augment import augment, draw_augmentation
from md2dist.distributed.world import World, sum_over_ranks
from md2dist.records import Batch, FrameBatch, StepOutput
from md2dist.training.batch_plan import BatchPlan
from md2dist.training.engine import Engine
from md2dist.training.gradient_guard import GradientGuard, is_finite
from md2dist.training.host_copy import HostCopy
from md2dist.training.running_statistics import RunningStatistics
from md2dist.training.schedule import learning_rate
from md2dist.training.skipped_steps import BAD_GRADIENT, BAD_LOSS


class StepResult(NamedTuple):
    """Results of a step for the log; tensors are on the device."""

    losses: torch.Tensor  # (1 + num_scales,): loss and scale_losses, mean over this rank's share
    flags: HostCopy  # (world_size + 1,): BAD_LOSS or BAD_GRADIENT of each rank; 1 if skipped
    gradient_norm: torch.Tensor  # (), over all ranks; not finite if the step was skipped
    learning_rate: float  # that of the optimizer, on the host
    batch: Batch  # the last micro-batch
    output: StepOutput  # of the last micro-batch


class TrainingStep:
    """One optimizer step: augmentation, forward, backward, update.

    Args:
        engine: DeepSpeed's engine around a MonodepthModel.
        guard: the gradient guard of its optimizer.
        config: all settings.
        plan: the batch sizes.
        world: this process.
        num_steps: length of the whole run in steps.
    """

    def __init__(
        self,
        engine: Engine,
        guard: GradientGuard,
        config: Config,
        plan: BatchPlan,
        world: World,
        num_steps: int,
    ):
        self.engine, self.guard = engine, guard
        self._num_steps = num_steps
        self._config, self._plan, self._world = config, plan, world
        self._statistics = RunningStatistics(engine.module)
        self._bad = torch.zeros((), device=world.device)
        for encoder in engine.module.encoders():  # a non-finite loss shows here
            next(encoder.parameters()).register_hook(partial(self._inspect, BAD_GRADIENT))

    def __call__(self, micro_batches: Sequence[FrameBatch], epoch: int, step: int) -> StepResult:
        """Processes this rank's share of one global batch and updates the weights once.

        Args:
            micro_batches: of this rank, one for each accumulation step.
            epoch: counted from 0; seeds the augmentation, together with the sample's number.
            step: counted from the run's start; seeds the noise, together with the micro-batch's
                number.
        """
        optim, size = self._config.optim, self._plan.global_batch_size
        rate = learning_rate(optim, size, epoch, step, self._num_steps)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = rate
        losses = []
        self._bad = torch.zeros_like(self._bad)
        for accum_index, frames in enumerate(micro_batches):
            batch = self._augment(frames, epoch)
            micro_batch = accum_index * self._world.world_size + self._world.rank
            output = self.engine(batch, noise_seed=self._noise_seed(step, micro_batch))
            self.engine.backward(self.guard.scale_loss(output.loss))
            self._inspect(BAD_LOSS, output.loss)
            losses.append(torch.cat([output.loss.detach()[None], output.scale_losses.detach()]))
            self.engine.step()
        self._statistics.average()
        return StepResult(
            losses=torch.stack(losses).mean(0),
            flags=self._share_flags(),
            gradient_norm=self.guard.norm,
            learning_rate=self.engine.optimizer.param_groups[0]["lr"],
            batch=batch,
            output=output,
        )

    def _share_flags(self) -> HostCopy:
        flags = torch.zeros(self._world.world_size + 1, device=self._world.device)
        flags[self._world.rank] = self._bad
        flags[-1] = is_finite(self.guard.norm).logical_not()
        return HostCopy(sum_over_ranks(flags))

    def _inspect(self, flag: int, values: torch.Tensor) -> None:
        """Records on the device whether values (any shape) of this rank are not finite."""
        are_finite = is_finite(values.detach()).all()
        self._bad = torch.maximum(self._bad, are_finite.logical_not() * flag)

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
        return int(sequence.generate_state(1, np.uint64)[0]) >> 1  # torch takes 63 bits
