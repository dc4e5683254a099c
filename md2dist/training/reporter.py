"""Reporter: averages, names and logs the values of steps and validations."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from md2dist.config import Config, LossConfig
from md2dist.distributed.world import World
from md2dist.losses.photometric import photometric_error
from md2dist.prediction.pictures import Picture, training_panel
from md2dist.records import FrameBatch
from md2dist.runs.checkpoint_folder import find_best
from md2dist.runs.run_log import RunLog
from md2dist.training.batch_plan import BatchPlan
from md2dist.training.meter import DelayedMeans, Meter
from md2dist.training.step import StepResult

logger = logging.getLogger(__name__)


class Reporter:
    """Feeds the run log; every rank has one, since means over the ranks need all of them.

    Args:
        log: the run's log.
        config: all settings.
        plan: the batch sizes.
        world: this process.
    """

    def __init__(self, log: RunLog, config: Config, plan: BatchPlan, world: World):
        self._log, self._config, self._plan, self._world = log, config, plan, world
        self._meter = Meter(world.world_size)
        self._learning_rate = 0.0  # of the last step
        self._pending: tuple[int, int, float, DelayedMeans] | None = None
        self._pending_picture: tuple[int, Picture] | None = None
        self._epoch = EpochTotals()

    def timed(self, data: Iterator[Sequence[FrameBatch]]) -> Iterator[Sequence[FrameBatch]]:
        """Yields the same data, and measures the time spent waiting for it."""
        while True:
            start = perf_counter()
            micro_batches = next(data, None)
            if micro_batches is None:
                return
            self._meter.waited += perf_counter() - start
            yield micro_batches

    def after_step(self, num_done: int, epoch: int, result: StepResult) -> None:
        """Adds a step; logs the one before if due.

        Args:
            num_done: optimizer steps taken.
            epoch: of this step.
            result: of this step.
        """
        self._log_pending()
        norm, self._learning_rate = result.gradient_norm, result.learning_rate
        is_skipped = torch.isfinite(norm).logical_not()
        self._meter.add(torch.cat([result.losses, torch.stack([norm, is_skipped.float()])]))
        if num_done % self._config.log.every_steps == 0:
            self._pending = (num_done, epoch, self._learning_rate, self._meter.flush())
        pictures_every = self._config.log.pictures_every_steps
        if pictures_every and num_done % pictures_every == 0 and self._world.is_main:
            self._pending_picture = (num_done, draw_panel(result, self._config.loss))
        self._log.advance(num_done)

    def after_validation(self, num_done: int, metrics: dict[str, float]) -> None:
        """Logs the metrics of a validation, by name."""
        self._log.log({f"val/{name}": value for name, value in metrics.items()}, num_done)

    def log_panels(self, num_done: int, panels: Iterable[Picture]) -> None:
        """Logs the panels (H, W, 3) of a validation."""
        for number, panel in enumerate(panels):
            self._log.log_validation_panel(number, panel, num_done)

    def log_worst(self, num_done: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Logs the table of the worst images of a validation."""
        self._log.log_table("val/worst", rows, num_done)

    def after_checkpoint(self, num_done: int, checkpoint: Path) -> None:
        """Logs a checkpoint after its validation, if there is one."""
        if self._world.is_main and self._config.log.wandb_artifacts:
            is_best = find_best(checkpoint.parent) == checkpoint
            self._log.log_checkpoint(checkpoint, ["best"] * is_best, num_done)

    def end_epoch(self, epoch: int) -> None:
        """Logs the means over an epoch, after `flush` at its last step."""
        totals, self._epoch = self._epoch, EpochTotals()
        logger.info(
            "epoch %d ended (%d of %d): mean loss %.4f, %.1f samples/s",
            epoch,
            epoch + 1,
            self._config.optim.num_epochs,
            totals.loss / totals.num_steps,
            totals.num_steps * self._plan.global_batch_size / totals.seconds,
        )

    def flush(self, num_done: int, epoch: int) -> None:
        """Logs all steps so far, before a pause or the end."""
        self._log_pending()
        if self._meter.num_steps:
            self._pending = (num_done, epoch, self._learning_rate, self._meter.flush())
            self._log_pending()

    def restart_clock(self) -> None:
        """Excludes the pause that ends here from the training time."""
        self._meter.restart_clock()

    def _log_pending(self) -> None:
        self._log_metrics()
        if self._pending_picture is not None:
            num_done, picture = self._pending_picture
            self._pending_picture = None
            self._log.log_picture("train/panel", picture, num_done)

    def _log_metrics(self) -> None:
        if self._pending is None:
            return
        num_done, epoch, learning_rate, means = self._pending
        self._pending = None
        loss, *scale_losses, gradient_norm, skipped = means.read()
        self._epoch.add(loss, means)
        num_samples = means.num_steps * self._plan.global_batch_size
        metrics = {
            "epoch": epoch,
            "train/loss": loss,
            **{f"train/loss_scale_{scale}": value for scale, value in enumerate(scale_losses)},
            "train/gradient_norm": gradient_norm,
            "train/skipped_steps": round(skipped * means.num_steps),
            "train/lr": learning_rate,
            "train/seconds_per_step": means.seconds / means.num_steps,
            "train/samples_per_second": num_samples / means.seconds,
            "train/data_wait": means.waited / means.seconds,
        }
        self._log.log(metrics, num_done)


@dataclass
class EpochTotals:
    """Sums over the steps of an epoch that this start has taken."""

    loss: float = 0.0
    num_steps: int = 0
    seconds: float = 0.0  # without pauses

    def add(self, loss: float, means: DelayedMeans) -> None:
        """Adds some steps with their mean loss."""
        self.loss += loss * means.num_steps
        self.num_steps += means.num_steps
        self.seconds += means.seconds


@torch.no_grad()
def draw_panel(result: StepResult, loss: LossConfig) -> Picture:
    """Draws the first sample of a step's last micro-batch: (H', W', 3) uint8."""
    target, warped = result.batch.target[0], result.output.warped[0].float()
    errors = photometric_error(warped[None], target[None].float(), loss.use_ssim)[0]
    return training_panel(
        target,
        [disparity[0] for disparity in result.output.disparities],
        warped,
        result.output.auto_mask[0],
        errors.mean(0) if loss.use_average else errors.amin(0),
    )
