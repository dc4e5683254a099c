"""Weights & Biases logging; failures or delays of W&B never stop or slow the training."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from md2dist.errors import ConfigError

logger = logging.getLogger(__name__)


class WandbLog:
    """A W&B run; the first failure of W&B is logged and turns W&B logging off.

    Args:
        mode: online, offline, disabled, or auto (online if logged in to W&B, else offline).
        project: W&B project.
        run_dir: the run's folder; the W&B files are in its `logs/wandb`.
        run_id: id of the W&B run to resume, or None for a new one.
        settings: the resolved configuration, logged as the W&B config.
    """

    def __init__(
        self, mode: str, project: str, run_dir: Path, run_id: str | None, settings: dict[str, Any]
    ):
        self._run: Any = None
        mode = _wanted_mode(mode) or ("online" if _has_account() else "offline")
        if mode != "disabled":
            self._guard(lambda: self._start(mode, project, run_dir, run_id, settings))

    @property
    def run_id(self) -> str | None:
        """W&B id with which the run can be resumed; None without W&B."""
        return self._run.id if self._run is not None else None

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Logs scalars for a step."""
        if self._run is not None:
            self._guard(lambda: self._run.log(metrics, step=step))

    def log_picture(self, name: str, picture: np.ndarray, step: int) -> None:
        """Logs a (H, W, 3) uint8 picture for a step."""
        if self._run is not None:
            import wandb

            self._guard(lambda: self._run.log({name: wandb.Image(picture)}, step=step))

    def finish(self, exit_code: int) -> None:
        """Finishes the W&B run."""
        if self._run is not None:
            self._guard(lambda: self._run.finish(exit_code=exit_code))

    def _start(
        self, mode: str, project: str, run_dir: Path, run_id: str | None, settings: dict[str, Any]
    ) -> None:
        import wandb

        folder = run_dir / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            mode=mode,  # type: ignore[arg-type]
            project=project,
            name=run_dir.name,
            dir=folder,
            id=run_id,
            resume="allow",
            config=settings,
            settings=wandb.Settings(silent=True, init_timeout=60, finish_timeout=30, console="off"),
        )
        if self._run.url:  # None if offline
            logger.info("W&B run: %s", self._run.url)

    def _guard(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # no failure of W&B may stop the training
            logger.warning("W&B logging is off for the rest of this run: %s", error)
            self._run = None


def check_account(mode: str) -> None:
    """Checks that W&B is logged in if it is online, because W&B would prompt on the terminal.

    Args:
        mode: as in `WandbLog`.

    Raises:
        ConfigError: if the mode is online and W&B has no API key.
    """
    if _wanted_mode(mode) == "online" and not _has_account():
        source = "WANDB_MODE" if mode == "auto" else "log.wandb_mode"
        raise ConfigError(
            f"{source}=online, but W&B is not logged in; log in with `wandb login`, set "
            "WANDB_API_KEY, or set log.wandb_mode=offline"
        )


def _wanted_mode(mode: str) -> str | None:
    return os.environ.get("WANDB_MODE") if mode == "auto" else mode


def _has_account() -> bool:
    """Returns whether W&B finds an API key, in the environment, in netrc or in its settings."""
    try:
        import wandb

        # Silent, because W&B would query the server for the account's name only to print it.
        wandb.setup(settings=wandb.Settings(silent=True, mode="online"))
        return wandb.login(prompt=False, verify=False)
    except Exception:  # logged when the run starts
        return True
