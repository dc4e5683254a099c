"""Logging of a run: metrics.jsonl, status.json, pictures, W&B and progress."""

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from md2dist.errors import TrainingError
from md2dist.runs.checkpoint_folder import read_validation
from md2dist.runs.deleted_files import belongs_to_another_run, list_missing
from md2dist.runs.metrics_file import drop_lines_after, read_metrics
from md2dist.runs.progress import Progress
from md2dist.runs.status_file import State, StatusWriter, logging_a_failed_write
from md2dist.runs.validation_panels import write_panel
from md2dist.runs.wandb.log import WandbLog
from md2dist.storage.atomic import atomic_open

logger = logging.getLogger(__name__)


class RunLog:
    """Logger of the main rank; on other ranks, all methods but `fail` do nothing.

    Args:
        run_dir: the run's folder.
        wandb: the W&B run (a disabled one on the other ranks).
        is_main: whether this process is the main rank.
        first_step: step from which the run resumes; later lines of metrics.jsonl are removed.
        progress: shows the steps.

    Attributes:
        step: number of finished steps.
    """

    def __init__(
        self,
        run_dir: Path,
        wandb: WandbLog,
        is_main: bool,
        first_step: int,
        progress: Progress,
    ):
        self._run_dir, self._wandb, self._is_main = run_dir, wandb, is_main
        self.step, self._progress = first_step, progress
        self._status = StatusWriter(run_dir, lambda: self.step, self._may_write_status)
        self._is_loss_reported = False
        self._take_usage: Callable[[], dict[str, float]] = dict
        if not is_main:
            return
        self._metrics_path = run_dir / "metrics.jsonl"
        (run_dir / "logs").mkdir(parents=True, exist_ok=True)
        drop_lines_after(self._metrics_path, first_step)
        wandb.catch_up(read_metrics(self._metrics_path))
        self._file = self._metrics_path.open("a", buffering=1)
        self.write_status("running")

    def advance(self, step: int) -> None:
        """Shows that `step` steps are finished; the first call starts the progress bar."""
        self.step = step
        if self._is_main:
            self._progress.advance(step)

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Logs metrics to metrics.jsonl, W&B and the terminal.

        Non-finite values become null in metrics.jsonl, since JSON has none.
        """
        if not self._is_main:
            return
        finite = {name: value if isfinite(value) else None for name, value in metrics.items()}
        line = json.dumps({"step": step, "time": round(time.time(), 3), **finite}) + "\n"
        with logging_a_failed_write(self._metrics_path):
            self._file.write(line)
        self._wandb.log(metrics | self._take_usage(), step)
        if "train/loss" in metrics:
            self._progress.report(metrics, step)
        self.write_status("running")
        self._report_missing_files()

    def log_picture(self, name: str, picture: np.ndarray, step: int) -> None:
        """Writes a (H, W, 3) uint8 picture to logs/ and logs it to W&B."""
        if not self._is_main:
            return
        from PIL import Image

        path = self._run_dir / "logs" / f"{name.replace('/', '-')}-{step:08d}.png"
        with logging_a_failed_write(path), atomic_open(path) as stream:
            Image.fromarray(picture).save(stream, format="PNG")
        self._wandb.log_picture(name, picture, step)

    def log_validation_panel(self, number: int, picture: np.ndarray, step: int) -> None:
        """Writes a (H, W, 3) uint8 panel of a validation image; W&B gets it, too."""
        if not self._is_main:
            return
        path = self._run_dir / "logs"
        with logging_a_failed_write(path):
            write_panel(self._run_dir, number, step, picture)
        self._wandb.log_picture(f"val/panel_{number}", picture, step)

    def log_table(self, name: str, rows: Iterable[Mapping[str, Any]], step: int) -> None:
        """Logs a table to W&B, see `WandbLog.log_table`; without W&B, the rows are not iterated."""
        self._wandb.log_table(name, rows, step)

    def log_checkpoint(self, checkpoint: Path, aliases: Sequence[str], step: int) -> None:
        """Logs a checkpoint as an artifact to W&B, with its step and validation metrics."""
        metadata = {"step": step, **(read_validation(checkpoint) or {})}
        self._wandb.log_checkpoint(checkpoint, aliases, metadata)

    def check_files(self) -> None:
        """Checks at the end that the files of the run are still there.

        Raises:
            TrainingError: on the main rank, naming those that someone has deleted or replaced.
        """
        if self._is_main and (missing := list_missing(self._run_dir, self._file)):
            raise TrainingError(
                f"log.run_dir={self._run_dir} was deleted or moved during the run: "
                f"{' and '.join(missing)} missing; the checkpoint of step {self.step} is there"
            )

    def _report_missing_files(self) -> None:
        missing = list_missing(self._run_dir, self._file)
        if missing and not self._is_loss_reported:
            self._is_loss_reported = True
            logger.error(
                "log.run_dir=%s was deleted or moved: %s missing; training continues and saves "
                "its next checkpoint there",
                self._run_dir,
                " and ".join(missing),
            )

    def follow(self, activity: Callable[[], tuple[str, float]]) -> None:
        """Keeps status.json fresh with the activity, see `StatusWriter.follow`."""
        if self._is_main:
            self._status.follow(activity)

    def include(self, take_usage: Callable[[], dict[str, float]]) -> None:
        """Adds what a function returns to each row of W&B, e.g. the usage of the machines."""
        self._take_usage = take_usage

    def write_status(self, state: State, message: str = "") -> None:
        """Writes status.json: the step and the state (running, preempted, finished or failed)."""
        if self._is_main:
            self._status.write(state, message)

    def fail(self, message: str) -> None:
        """Closes the log of a failed run; thread-safe. Called by another rank if rank 0 died."""
        if self._is_main:
            self.close("failed", message)
        else:
            self._status.write("failed", message)

    def _may_write_status(self) -> bool:
        """Whether the folder is there and no other run's; `check_files` reports it if not."""
        return self._run_dir.is_dir() and not (
            self._is_main and belongs_to_another_run(self._run_dir, self._file)
        )

    def close(self, state: State, message: str = "") -> None:
        """Writes the final state of the run and closes the log."""
        if not self._is_main:
            return
        self.write_status(state, message)
        self._progress.close()
        with logging_a_failed_write(self._metrics_path):
            self._file.close()
        self._wandb.finish(exit_code=0 if state in ("finished", "preempted") else 1)
