"""Weights & Biases logging that never stops or slows the training if W&B fails."""

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from md2dist.runs.wandb.media import Rows, make_artifact, make_picture, make_table
from md2dist.runs.wandb.names import ORIGIN, STEP, group_name
from md2dist.runs.wandb.parts import (
    Part,
    find_last_step,
    find_parts,
    list_uploads,
    read_part,
    wait_until_closed,
)
from md2dist.runs.wandb.sender import Sender
from md2dist.runs.wandb.service import restart_service, start_service

logger = logging.getLogger(__name__)

_FLUSH_INTERVAL_S = 2.0  # what W&B may lose if its own process is killed
_SENDING_TIMEOUT_S = 30.0
_DATA_DIR = "WANDB_DATA_DIR"  # W&B keeps files of tables there; by default in the user's home


class WandbLog:
    """A W&B run; after a failure it logs one warning and turns itself off.

    All starts of a training are one W&B run, each step of which is logged once: steps that an
    earlier start has logged are left out, and those that it lost are logged again. The metrics are
    drawn over a metric `step`, since W&B renumbers its own steps. Nothing but the start and the end
    waits for W&B.

    Args:
        mode: online, offline or disabled.
        project: W&B project; entity, group, tags and name are those of W&B's variables, if set.
        run_dir: the run's folder; W&B writes its files to `logs/wandb` in it.
        run_id: ID of the W&B run to resume. None for a new one, unless an earlier start with the
            same settings has left one before its first checkpoint.
        settings: the resolved configuration, logged with the run.
        origin: what the run was started from, logged with the settings; it may change.
    """

    def __init__(
        self,
        mode: str,
        project: str,
        run_dir: Path,
        run_id: str | None,
        settings: dict[str, Any],
        origin: dict[str, Any] | None = None,
    ):
        self._run: Any = None
        self._opened_id: str | None = None  # of the run, until its offline parts are logged
        self._sets_data_dir = False
        self._sender = Sender()
        self._folder = run_dir / "logs"
        self._row: dict[str, Any] = {}
        self._step = -1  # of the row
        self._last_step: int | None = None  # that earlier starts have logged, if there are any
        self._last_names: frozenset[str] = frozenset()  # of that step
        self._is_online = mode == "online"
        if mode != "disabled":
            everything = settings | {ORIGIN: origin or {}}
            self._guard(lambda: self._start(mode, project, run_dir.name, run_id, everything))

    @property
    def run_id(self) -> str | None:
        """ID for resuming the W&B run; None if W&B is off."""
        run = self._run
        return run.id if run is not None else None

    @property
    def is_on(self) -> bool:
        """Whether anything is logged."""
        return self._run is not None

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Logs scalars at a step, in ascending order; they are sent once the step is complete."""
        self._add({group_name(name): value for name, value in metrics.items()}, step)

    def log_picture(self, name: str, picture: np.ndarray, step: int) -> None:
        """Logs a (H, W, 3) uint8 picture at a step."""
        self._add({name: picture}, step)

    def log_table(self, name: str, rows: Iterable[Mapping[str, Any]], step: int) -> None:
        """Logs a table at a step; nothing if it has no rows.

        Args:
            name: of the table.
            rows: with the same columns; (H, W, 3) uint8 arrays among their values are pictures.
            step: as for `log`.
        """
        if self.is_on and (table := Rows(tuple(rows))).rows:
            self._add({name: table}, step)

    def log_checkpoint(
        self, checkpoint: Path, aliases: Sequence[str], metadata: Mapping[str, Any]
    ) -> None:
        """Logs a checkpoint as a version of the run's artifact, which refers to its files.

        Args:
            checkpoint: its folder.
            aliases: names of this version, besides `latest`.
            metadata: values that describe it.
        """
        self._submit(lambda: self._send_checkpoint(checkpoint, aliases, metadata))

    def catch_up(self, rows: Iterable[tuple[int, dict[str, float]]]) -> None:
        """Logs what an earlier start has logged elsewhere, but W&B has lost.

        Args:
            rows: steps, ascending, with their metrics.
        """
        if self.is_on and self._last_step is not None:
            for step, metrics in rows:
                self.log(metrics, step)

    def finish(self, exit_code: int) -> None:
        """Finishes the W&B run, and logs how to upload its offline parts."""
        self._send()
        if not self._sender.close(_SENDING_TIMEOUT_S):
            logger.warning("W&B has not taken everything within %.0f s", _SENDING_TIMEOUT_S)
            self._run = None
        if self.is_on:
            self._guard(lambda: self._finish(exit_code))
        self._guard(self._log_uploads)
        if self._sets_data_dir:
            os.environ.pop(_DATA_DIR, None)
            self._sets_data_dir = False

    def _start(
        self,
        mode: str,
        project: str,
        name: str,
        run_id: str | None,
        settings: dict[str, Any],
    ) -> None:
        folder = self._folder / "wandb"
        if _DATA_DIR not in os.environ:
            os.environ[_DATA_DIR] = str(folder.absolute())
            self._sets_data_dir = True
        parts = find_parts(folder)
        if run_id is None and parts:
            is_same = read_part(parts[-1]).settings == _as_read(settings)
            run_id = parts[-1].run_id if is_same else None
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # of W&B's own telemetry
        start_service()
        try:
            self._run = self._open(mode, project, name, run_id, settings)
        except Exception as error:
            if mode != "online":
                raise
            logger.warning("W&B logs offline: %s", _in_one_line(error))
            self._is_online = False
            restart_service()
            self._run = self._open("offline", project, name, run_id, settings)
        self._opened_id = self._run.id
        if self._is_online:
            logger.info("W&B run: %s", self._run.url)
        parts = [part for part in parts if part.run_id == self._run.id]
        self._last_step = find_last_step(parts, self._run.summary if self._is_online else None)
        rows = [read_part(part) for part in parts]
        last = (row.last_names for row in rows if row.last_step == self._last_step)
        self._last_names = frozenset().union(*last)
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP)

    def _open(
        self, mode: str, project: str, name: str, run_id: str | None, settings: dict[str, Any]
    ) -> Any:
        import wandb

        self._folder.mkdir(parents=True, exist_ok=True)
        # Imported now: the thread may not import while the loader forks its workers.
        _ = wandb.Image, wandb.Table, wandb.Artifact
        return wandb.init(
            mode=mode,  # type: ignore[arg-type]
            project=project,
            name=os.environ.get("WANDB_NAME") or name,
            dir=self._folder,
            id=run_id,
            resume="allow",
            config=settings,
            settings=wandb.Settings(
                silent=True,
                init_timeout=60,
                finish_timeout=30,
                console="off",
                x_transaction_log_flush_interval=_FLUSH_INTERVAL_S,
            ),
        )

    def _add(self, values: dict[str, Any], step: int) -> None:
        if self._last_step is not None and step <= self._last_step:
            values = {name: values[name] for name in values if self._is_owed(name, step)}
        if not (values and self.is_on):
            return
        if step != self._step:
            self._send()
        self._step = step
        self._row |= values

    def _is_owed(self, name: str, step: int) -> bool:
        """Whether it is from the validation that a stop left to the next start."""
        is_new = step == self._last_step and name not in self._last_names
        return is_new and name.startswith("val/")

    def _send(self) -> None:
        """Sends the row, complete: W&B would lose an incomplete one if this process is killed."""
        (row, self._row), step = (self._row, {}), self._step
        if row:
            self._submit(lambda: self._send_row(row, step))

    def _send_row(self, row: dict[str, Any], step: int) -> None:
        """Sends a row in the sender's thread; without its tables if W&B fails on them."""
        values = {name: value for name, value in row.items() if not isinstance(value, Rows)}
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                values[name] = make_picture(value, step)
        # Online, W&B would drop rows if the server's count is ahead of our steps.
        own_step = None if self._is_online else step
        values = {STEP: step, **values}
        try:
            tables = {name: make_table(row[name]) for name in row.keys() - values.keys()}
            self._run.log(values | tables, step=own_step, commit=True)
        except Exception as error:
            if row.keys() <= values.keys():
                raise
            logger.warning("step %d has no table in W&B: %s", step, _in_one_line(error))
            self._run.log(values, step=own_step, commit=True)

    def _send_checkpoint(
        self, checkpoint: Path, aliases: Sequence[str], metadata: Mapping[str, Any]
    ) -> None:
        """Logs an artifact in the sender's thread."""
        try:
            artifact = make_artifact(f"checkpoint-{self._run.id}", checkpoint, metadata)
            self._run.log_artifact(artifact, aliases=["latest", *aliases])
        except Exception as error:  # a removed checkpoint, or a server without artifacts
            logger.warning("%s is no artifact in W&B: %s", checkpoint, _in_one_line(error))

    def _finish(self, exit_code: int) -> None:
        self._run.finish(exit_code=exit_code)
        for part in self._list_parts():
            if part.folder.resolve() == Path(self._run.dir).parent.resolve():
                wait_until_closed(part)
        self._run = None

    def _list_parts(self) -> list[Part]:
        folder = self._folder / "wandb"
        return [part for part in find_parts(folder) if part.run_id == self._opened_id]

    def _log_uploads(self) -> None:
        """Logs once how to upload the offline parts, even if W&B has failed since the start."""
        words, self._opened_id = list_uploads(self._list_parts()), None
        if words:
            logger.info("upload it with: wandb sync %s", words)

    def _submit(self, action: Callable[[], None]) -> None:
        if self.is_on:
            self._sender.submit(lambda: self._guard(action) if self.is_on else None)

    def _guard(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # no failure of W&B stops the training
            logger.warning("W&B logging is off for the rest of this run: %s", _in_one_line(error))
            self._run = None


def _as_read(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings as `read_part` does: plain values of JSON, without their origin."""
    return json.loads(json.dumps({name: settings[name] for name in settings.keys() - {ORIGIN}}))


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
