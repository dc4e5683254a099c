"""Checkpointing and validation between training steps."""

import logging
from dataclasses import replace
from pathlib import Path

import torch

from md2dist.config import Config, dump_config
from md2dist.distributed.replicas import check_replicas
from md2dist.distributed.watchdog import Watchdog
from md2dist.distributed.world import World, sum_over_ranks
from md2dist.errors import CheckpointError
from md2dist.runs.checkpoint import save_checkpoint
from md2dist.runs.checkpoint_names import name_of
from md2dist.runs.run_dir import refuse_other_run
from md2dist.training.engine import Engine
from md2dist.training.gradient_guard import GradientGuard
from md2dist.training.reporter import Reporter
from md2dist.training.schedule import is_due
from md2dist.training.setup import RunSetup
from md2dist.training.validation.validator import Validator
from md2dist.weights.fit import list_faults, list_not_finite

logger = logging.getLogger(__name__)


class CheckpointAndValidation:
    """Saves and validates at the end of every epoch, every so many steps, and at the end.

    Each validation follows a checkpoint, which keeps its metrics.

    Args:
        engine: DeepSpeed's engine around a MonodepthModel.
        guard: the gradient guard of its optimizer.
        config: all settings.
        setup: the checked parts of the run.
        report: receives the metrics of validations.
        world: this process.
        watchdog: receives progress; its stop requests interrupt validations.

    Attributes:
        validator: validates, and counts for early stopping.
    """

    def __init__(
        self,
        engine: Engine,
        guard: GradientGuard,
        config: Config,
        setup: RunSetup,
        report: Reporter,
        world: World,
        watchdog: Watchdog,
    ):
        self._engine, self._guard, self._config = engine, guard, config
        self._setup, self._report = setup, report
        self._world, self._watchdog = world, watchdog
        self._folder = Path(config.log.run_dir) / "checkpoints"
        self.validator = Validator(engine.module, config, setup, report, world, watchdog)
        self._saved_step: int | None = None
        if setup.checkpoint is not None:
            self._note_saved(setup.first_step)

    def before_first_step(self) -> None:
        """Runs the validation before which an earlier start of the run was stopped."""
        if self._setup.needs_validation:
            checkpoint = self._setup.checkpoint
            folder = checkpoint.folder if checkpoint else None
            self.validator.run(self._setup.first_step, folder)
            self._log_checkpoint(self._setup.first_step, folder)
            self._report.restart_clock()

    def after_step(self, num_done: int, epoch: int) -> None:
        """Saves and validates where due; all ranks call it after each step.

        Args:
            num_done: optimizer steps taken.
            epoch: of the last step.

        Raises:
            CheckpointError: if the end of the run cannot be saved. Earlier failures are only
                logged, since space may be freed until the next checkpoint.
        """
        is_last = num_done == self._setup.last_step
        is_epoch_end = num_done % self._setup.order.num_steps == 0
        schedule = self._config.checkpoint
        validates = is_last or is_epoch_end or is_due(num_done, schedule.validate_every_steps)
        if not (validates or is_due(num_done, schedule.every_steps)):
            return
        self._report.flush(num_done, epoch)
        if is_epoch_end:
            self._report.end_epoch(epoch)
        checkpoint = None
        try:
            checkpoint = self.save(num_done)
        except CheckpointError as error:
            if is_last:
                raise
            self._log_once("%s; training continues and saves again at the next checkpoint", error)
        if validates:
            self.validator.run(num_done, checkpoint)
        self._log_checkpoint(num_done, checkpoint)
        self._report.restart_clock()

    def before_end(self, num_done: int, epoch: int) -> None:
        """Saves the run before it ends, unless this step is saved and still there.

        Raises:
            CheckpointError: on all ranks, if it cannot be written.
        """
        if num_done != self._saved_step or not self._is_there(num_done):
            self._report.flush(num_done, epoch)
            self._log_checkpoint(num_done, self.save(num_done))

    def save(self, num_done: int) -> Path:
        """Saves the run after `num_done` steps; all ranks call it.

        Raises:
            CheckpointError: on all ranks, if it cannot be written, or a weight is not finite.
            ConfigError: on the main rank, if another run has started in `log.run_dir`.
            ReplicaError: on all ranks, if they hold different weights.
        """
        self._watchdog.report_progress(f"saving step {num_done}")
        check_replicas(self._engine.module)
        if faults := list_not_finite(self._engine.module.state_dict()):  # the same on all ranks
            raise CheckpointError(
                f"step {num_done} is not saved: of its weights and running statistics "
                f"{list_faults({'are not finite': faults})}; resume from the last checkpoint"
            )
        config, setup = self._config, self._setup
        if self._world.is_main:
            refuse_other_run(Path(config.log.run_dir))
        state = replace(
            setup.state,
            step=num_done,
            guard=self._guard.state(),
            validations=self.validator.state,
        )
        checkpoint = save_checkpoint(
            self._engine,
            self._folder,
            state,
            dump_config(config),
            config.checkpoint.keep,
            self._world,
            [(epoch + 1) * setup.order.num_steps for epoch in config.checkpoint.keep_epochs],
        )
        self._note_saved(num_done)
        logger.info("step %d saved in %s", num_done, checkpoint)
        return checkpoint

    def _log_checkpoint(self, step: int, checkpoint: Path | None) -> None:
        if checkpoint is not None:
            self._report.after_checkpoint(step, checkpoint)

    def _note_saved(self, step: int) -> None:
        self._saved_step = step
        self._watchdog.report_saved(step)

    def _is_there(self, step: int) -> bool:
        """Whether the checkpoint of a step exists, as the main rank sees it; all ranks call it."""
        is_there = self._world.is_main and (self._folder / name_of(step)).is_dir()
        return sum_over_ranks(torch.tensor(float(is_there))).item() > 0

    def _log_once(self, message: str, *details: object) -> None:
        """Logs a failure of all ranks: once on the terminal, and in the log file of each."""
        logger.log(logging.ERROR if self._world.is_main else logging.INFO, message, *details)
