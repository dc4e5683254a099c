"""The positions at which a run pauses, to be saved and to be validated."""

import logging
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from md2dist.config import Config
from md2dist.distributed.replicas import check_replicas
from md2dist.distributed.watchdog import Watchdog
from md2dist.distributed.world import World
from md2dist.errors import CheckpointError, Md2distError
from md2dist.evaluation.depth import EvaluationInterrupted
from md2dist.runs.checkpoint import save_checkpoint
from md2dist.runs.checkpoint_folder import note_validation
from md2dist.training.gradient_guard import GradientGuard
from md2dist.training.reporter import Reporter
from md2dist.training.setup import RunSetup
from md2dist.training.validation import validate

logger = logging.getLogger(__name__)


class CheckpointAndValidation:
    """Saves at the end of every epoch, every so many steps and at the end; validates after epochs.

    Args:
        engine: DeepSpeed's engine around a MonodepthModel.
        guard: watches the engine's gradients.
        config: all settings.
        setup: the checked parts of the run.
        report: tells of the validations.
        wandb_id: names the run in W&B.
        world: this process.
        watchdog: told of progress; breaks validations off.

    Attributes:
        owes_validation: whether the last validation was broken off.
    """

    def __init__(
        self,
        engine: Any,
        guard: GradientGuard,
        config: Config,
        setup: RunSetup,
        report: Reporter,
        wandb_id: str | None,
        world: World,
        watchdog: Watchdog,
    ):
        self._engine, self._guard, self._config = engine, guard, config
        self._setup, self._report = setup, report
        self._world, self._watchdog = world, watchdog
        self._wandb_id = wandb_id
        self.owes_validation = False
        self._saved_step = setup.first_step if setup.checkpoint is not None else None

    def before_first_step(self) -> None:
        """Makes up for a validation that an earlier life of the run did not come to."""
        if self._setup.needs_validation:
            self._validate(self._setup.first_step, self._setup.checkpoint)
            self._report.restart_clock()

    def after_step(self, num_done: int, epoch: int) -> None:
        """Saves and validates where it is time; all ranks call it after each step.

        Args:
            num_done: optimizer steps that are behind the run now.
            epoch: of the last step.

        Raises:
            CheckpointError: if the end of the run cannot be saved. Before that, an error of the
                disk is only told: room may be made until the next time.
        """
        is_last = num_done == self._setup.last_step
        is_epoch_end = num_done % self._setup.order.num_steps == 0
        every = self._config.checkpoint.every_steps
        if not (is_last or is_epoch_end or (every is not None and num_done % every == 0)):
            return
        self._report.flush(num_done, epoch)
        checkpoint = None
        try:
            checkpoint = self.save(num_done)
        except CheckpointError as error:
            if is_last:
                raise
            self._tell_once("%s The run goes on, and tries again at the next time.", error)
        if is_last or is_epoch_end:
            self._validate(num_done, checkpoint)
        self._report.restart_clock()

    def before_stop(self, num_done: int, epoch: int) -> None:
        """Saves the run in front of a step that is not taken, unless it has just been saved.

        Raises:
            CheckpointError: on all ranks, if it cannot be written.
        """
        if num_done != self._saved_step:
            self._report.flush(num_done, epoch)
            self.save(num_done)

    def save(self, num_done: int) -> Path:
        """Saves the run as it is after so many steps; all ranks call it.

        Raises:
            CheckpointError: on all ranks, if it cannot be written.
            ReplicaError: on all ranks, if they hold different weights.
        """
        self._watchdog.report_progress(f"saving step {num_done}")
        check_replicas(self._engine.module)
        config, setup = self._config, self._setup
        facts = {
            "step": num_done,
            "seed": config.seed,
            "global_batch_size": setup.plan.global_batch_size,
            "window_shards": config.data.window_shards,
            "shard_digest": setup.train_set.manifest.digest,
            "zero_stage": config.deepspeed.zero_stage,
            "world_size": self._world.world_size,
            "resolved": setup.resolved,
            "guard": self._guard.state(),
            "wandb_id": self._wandb_id,
        }
        folder = Path(config.log.run_dir) / "checkpoints"
        text = OmegaConf.to_yaml(OmegaConf.structured(config))
        checkpoint = save_checkpoint(
            self._engine, folder, facts, text, config.checkpoint.keep, self._world
        )
        self._saved_step = num_done
        return checkpoint

    def _validate(self, num_done: int, checkpoint: Path | None) -> None:
        if self._setup.val_set is None:
            return
        try:
            report = validate(
                self._engine.module, self._setup.val_set, self._world, self._is_stopping
            )
        except EvaluationInterrupted:
            self.owes_validation = True
            return
        except Md2distError as error:  # on all ranks alike
            self._tell_once("step %d is not validated: %s. The run goes on.", num_done, error)
            return
        self._report.after_validation(num_done, report)
        if checkpoint is not None and self._world.is_main:
            try:
                note_validation(checkpoint, report.as_dict())
            except OSError as error:
                logger.error("%s is not marked as validated: %s", checkpoint, error.strerror)

    def _tell_once(self, message: str, *details: object) -> None:
        """Tells what went wrong on all ranks alike: on the terminal once, in the log of each."""
        logger.log(logging.ERROR if self._world.is_main else logging.INFO, message, *details)

    def _is_stopping(self) -> bool:
        self._watchdog.report_progress("validating")
        return self._watchdog.is_stopping()
