"""Validation of a run: on all sets, noted in its checkpoint, and counted for early stopping."""

import logging
from pathlib import Path

from md2dist.config import Config
from md2dist.distributed.watchdog import Watchdog
from md2dist.distributed.world import World
from md2dist.errors import Md2distError
from md2dist.evaluation.depth import EvaluationInterrupted
from md2dist.evaluation.depth_scores import DepthReport, ImageScore, summarise
from md2dist.model import MonodepthModel
from md2dist.runs.checkpoint_folder import find_best, note_validation, read_validation
from md2dist.training.reporter import Reporter
from md2dist.training.setup import RunSetup
from md2dist.training.validation.depth import draw_panels, tabulate_worst, validate
from md2dist.training.validation.patience import count_validation, describe_stop
from md2dist.training.validation.sets import ValidationSet, name_metrics

logger = logging.getLogger(__name__)


class Validator:
    """Validates a model in training; all ranks have one, and share the images.

    Args:
        model: the model in training.
        config: all settings.
        setup: the checked parts of the run, the validation sets among them.
        report: receives the metrics.
        world: this process.
        watchdog: receives progress; its stop requests interrupt validations.

    Attributes:
        state: the validations of the run so far.
        is_owed: whether the last validation was interrupted.
    """

    def __init__(
        self,
        model: MonodepthModel,
        config: Config,
        setup: RunSetup,
        report: Reporter,
        world: World,
        watchdog: Watchdog,
    ):
        self._model, self._config, self._sets = model, config, setup.val_sets
        self._report, self._world, self._watchdog = report, world, watchdog
        self.state = setup.state.validations
        self.is_owed = False

    @property
    def early_end(self) -> str:
        """Why the run ends after the last validation; empty if it continues."""
        return describe_stop(self.state, self._config.checkpoint.patience)

    def run(self, step: int, checkpoint: Path | None) -> None:
        """Validates on all sets; all ranks call it.

        Args:
            step: optimizer steps taken.
            checkpoint: of this step, which keeps the metrics; None if it could not be saved.
        """
        if not self._sets:
            return
        scores: dict[str, list[ImageScore]] = {}
        for val_set in self._sets:
            try:
                scores[val_set.name] = self._validate(val_set)
            except EvaluationInterrupted:
                self.is_owed = True
                return
            except Md2distError as error:  # on all ranks
                self._log_failure(step, val_set, error)
        if not scores:
            return
        reports = {name: summarise(images) for name, images in scores.items()}
        first = self._sets[0].name
        metrics = name_metrics(reports, first)
        self._report.after_validation(step, metrics)
        if first in reports:
            self.state = count_validation(self.state, step, metrics["abs_rel"])
        if self._world.is_main:
            self._note(step, checkpoint, metrics, reports)
            self._log_panels(step, scores.get(first, []))

    def _validate(self, val_set: ValidationSet) -> list[ImageScore]:
        return validate(
            self._model,
            val_set.dataset,
            self._world,
            self._is_stopping,
            use_flip_postprocess=self._config.checkpoint.use_flip_postprocess,
        )

    def _note(
        self,
        step: int,
        checkpoint: Path | None,
        metrics: dict[str, float],
        reports: dict[str, DepthReport],
    ) -> None:
        """Writes the metrics into the checkpoint, and logs them."""
        first, comparison = self._sets[0].name, ""
        if checkpoint is not None and first in reports:
            try:
                note_validation(checkpoint, metrics, self.state.origin)
            except OSError as error:
                logger.error("the metrics of %s are not saved: %s", checkpoint, error.strerror)
            comparison = compare_with_best(checkpoint.parent, checkpoint)
        parts = []
        for name, report in reports.items():
            place = f" on {name}" * (len(self._sets) > 1)
            end = comparison if name == first else ""
            parts.append(f"abs_rel {report.metrics.abs_rel:.4f}{place}{end}")
        logger.info("step %d validated: %s", step, "; ".join(parts))

    def _log_panels(self, step: int, scores: list[ImageScore]) -> None:
        """Draws a few images on the main rank, while the others wait in the next step."""
        dataset, log = self._sets[0].dataset, self._config.log
        use_flip = self._config.checkpoint.use_flip_postprocess
        worst = (self._model, dataset, scores, log.wandb_worst)
        try:
            self._report.log_panels(step, draw_panels(self._model, dataset, log.val_pictures))
            self._report.log_worst(step, tabulate_worst(*worst, use_flip_postprocess=use_flip))
        except Md2distError as error:
            logger.warning("pictures of step %d are missing: %s", step, error)

    def _log_failure(self, step: int, val_set: ValidationSet, error: Md2distError) -> None:
        """Logs a failure of all ranks: once on the terminal, and in the log file of each."""
        level = logging.ERROR if self._world.is_main else logging.INFO
        place = f" on {val_set.name}" * (len(self._sets) > 1)
        logger.log(level, "step %d is not validated%s: %s; training continues", step, place, error)

    def _is_stopping(self) -> bool:
        self._watchdog.report_progress("validating")
        return self._watchdog.is_stopping()


def compare_with_best(folder: Path, checkpoint: Path) -> str:
    """Compares a validated checkpoint with the best one, as the end of a log line.

    Args:
        folder: the run's `checkpoints` folder.
        checkpoint: the validated one.
    """
    best = find_best(folder)
    if best is None:
        return ""
    if best == checkpoint:
        return ", the best so far"
    metrics = read_validation(best)
    return f" (best: {metrics['abs_rel']:.4f}, {best.name})" if metrics else ""
