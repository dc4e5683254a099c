"""Weights & Biases logging that never stops or slows the training if W&B fails."""

import itertools
import json
import logging
import shlex
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from md2dist.runs.wandb.parts import STEP, Part, find_parts, read_part
from md2dist.runs.wandb.service import restart_service, start_service

logger = logging.getLogger(__name__)

_FLUSH_INTERVAL_S = 2.0  # what W&B may lose if its own process is killed
_CLOSING_TIMEOUT_S = 5.0
_MOST_LISTED_PARTS = 5


class WandbLog:
    """A W&B run; after a failure it logs one warning and turns itself off.

    All starts of a training are one W&B run, each step of which is logged once: steps that an
    earlier start has logged are left out, and those that it lost are logged again. The metrics are
    drawn over a metric `step`, since W&B renumbers its own steps.

    Args:
        mode: online, offline or disabled.
        project: W&B project.
        run_dir: the run's folder; W&B writes its files to `logs/wandb` in it.
        run_id: ID of the W&B run to resume. None for a new one, unless an earlier start with the
            same settings has left one before its first checkpoint.
        settings: the resolved configuration, logged with the run.
    """

    def __init__(
        self, mode: str, project: str, run_dir: Path, run_id: str | None, settings: dict[str, Any]
    ):
        self._run: Any = None
        self._folder = run_dir / "logs"
        self._row: dict[str, Any] = {}
        self._step = -1  # of the row
        self._last_step: int | None = None  # that earlier starts have logged, if there are any
        self._last_names: frozenset[str] = frozenset()  # of that step
        self._is_online = mode == "online"
        if mode != "disabled":
            self._guard(lambda: self._start(mode, project, run_dir.name, run_id, settings))

    @property
    def run_id(self) -> str | None:
        """ID for resuming the W&B run; None if W&B is off."""
        return self._run.id if self._run is not None else None

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Logs scalars at a step, in ascending order; they are sent once the step is complete."""
        if self._run is not None:
            self._guard(lambda: self._add(metrics, step))

    def log_picture(self, name: str, picture: np.ndarray, step: int) -> None:
        """Logs a (H, W, 3) uint8 picture at a step."""
        if self._run is not None:
            self._guard(lambda: self._add({name: picture}, step))

    def catch_up(self, rows: Iterable[tuple[int, dict[str, float]]]) -> None:
        """Logs what an earlier start has logged elsewhere, but W&B has lost.

        Args:
            rows: steps, ascending, with their metrics.
        """
        if self._run is not None and self._last_step is not None:
            for step, metrics in rows:
                self.log(metrics, step)

    def finish(self, exit_code: int) -> None:
        """Finishes the W&B run, and logs how to upload its offline parts."""
        if self._run is not None:
            self._guard(lambda: self._finish(exit_code))

    def _start(
        self, mode: str, project: str, name: str, run_id: str | None, settings: dict[str, Any]
    ) -> None:
        parts = find_parts(self._folder / "wandb")
        if run_id is None and parts:
            is_same = read_part(parts[-1]).settings == json.loads(json.dumps(settings))
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
        if self._is_online:
            logger.info("W&B run: %s", self._run.url)
        parts = [part for part in parts if part.run_id == self._run.id]
        self._last_step = _last_step(parts, self._run.summary if self._is_online else None)
        rows = [read_part(part) for part in parts]
        names = (row.last_names for row in rows if row.last_step == self._last_step)
        self._last_names = frozenset().union(*names)
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP)

    def _open(
        self, mode: str, project: str, name: str, run_id: str | None, settings: dict[str, Any]
    ) -> Any:
        import wandb

        self._folder.mkdir(parents=True, exist_ok=True)
        return wandb.init(
            mode=mode,  # type: ignore[arg-type]
            project=project,
            name=name,
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
        if not values:
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
        row, self._row = self._row, {}
        if not row:
            return
        for name, value in row.items():
            if isinstance(value, np.ndarray):
                row[name] = _make_picture(value, self._step)
        # Online, W&B would drop rows if the server's count is ahead of our steps.
        own_step = None if self._is_online else self._step
        self._run.log({STEP: self._step, **row}, step=own_step, commit=True)

    def _finish(self, exit_code: int) -> None:
        self._send()
        run, self._run = self._run, None
        run.finish(exit_code=exit_code)
        parts = [part for part in find_parts(self._folder / "wandb") if part.run_id == run.id]
        for part in parts:
            if part.folder.resolve() == Path(run.dir).parent.resolve():
                _wait_until_closed(part)
        if words := _places_to_upload(parts):
            logger.info("upload it with: wandb sync %s", words)

    def _guard(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # no failure of W&B stops the training
            logger.warning("W&B logging is off for the rest of this run: %s", _in_one_line(error))
            self._run = None


def _make_picture(picture: np.ndarray, step: int) -> Any:
    """Returns a W&B image of (H, W, 3) whose file is named by our step instead of W&B's own."""
    import wandb

    class Picture(wandb.Image):
        def bind_to_run(self, run: Any, key: Any, _: Any, *args: Any, **options: Any) -> None:
            super().bind_to_run(run, key, step, *args, **options)

    return Picture(picture)


def _last_step(parts: list[Part], summary: Any) -> int | None:
    """Returns the last step that earlier starts have logged; None if there were none.

    Args:
        parts: of this run, on this machine.
        summary: the last values that the server has received, or None offline. What an online part
            had not sent when its machine failed is missing there.
    """
    # The last values are those of the part that was uploaded last.
    is_mixed = any(part.is_uploaded() for part in parts)
    is_kept = [summary is None or is_mixed or part.is_offline for part in parts]
    steps = [read_part(part).last_step for part in itertools.compress(parts, is_kept)]
    sent = None if summary is None else summary.get(STEP)
    if sent is not None:
        steps.append(int(sent))
    return max(steps, default=-1 if parts else None)


def _wait_until_closed(part: Part) -> None:
    """Waits for a moment until W&B's process has written the end of a part.

    `finish` returns before.
    """
    deadline = time.monotonic() + _CLOSING_TIMEOUT_S
    while not read_part(part).is_closed and time.monotonic() < deadline:
        time.sleep(0.05)


def _places_to_upload(parts: list[Part]) -> str:
    """Returns the words of a shell for the offline parts of a run that are not uploaded yet."""
    parts = [part for part in parts if part.is_offline and not part.is_uploaded()]
    if len(parts) > _MOST_LISTED_PARTS:
        folder = shlex.quote(str(parts[0].folder.parent))
        return f"{folder}/offline-run-*-{parts[0].run_id}"
    return shlex.join(str(part.folder) for part in parts)


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
