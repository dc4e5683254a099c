"""Weights & Biases, guarded: a dead or slow W&B never stops or slows the training."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from md2dist.errors import ConfigError

logger = logging.getLogger(__name__)


class WandbLog:
    """A run of W&B that swallows every failure of W&B after telling it once.

    Args:
        mode: online, offline, disabled, or auto (online where there is an account, else offline).
        project: W&B project.
        run_dir: the run's folder; W&B's files go to `logs/wandb` inside.
        run_id: the id to go on with, or None for a new one.
        settings: the resolved configuration, shown with the run.
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
        """The id under which the run can be continued; None without W&B."""
        return self._run.id if self._run is not None else None

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Logs scalars at a step."""
        if self._run is not None:
            self._guard(lambda: self._run.log(metrics, step=step))

    def log_picture(self, name: str, picture: np.ndarray, step: int) -> None:
        """Logs a (H, W, 3) uint8 picture at a step."""
        if self._run is not None:
            import wandb

            self._guard(lambda: self._run.log({name: wandb.Image(picture)}, step=step))

    def finish(self, exit_code: int) -> None:
        """Ends the run."""
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
        if self._run.url:  # none offline
            logger.info("the run in W&B: %s", self._run.url)

    def _guard(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # whatever W&B does wrong is not the training's business
            logger.warning("W&B is left out from here on: %s", error)
            self._run = None


def check_account(mode: str) -> None:
    """Looks for the account that W&B needs, before W&B would ask the terminal for one.

    Args:
        mode: as of `WandbLog`.

    Raises:
        ConfigError: if W&B is to be online, and there is none.
    """
    if _wanted_mode(mode) == "online" and not _has_account():
        source = "WANDB_MODE" if mode == "auto" else "log.wandb_mode"
        raise ConfigError(
            f"{source}=online, but W&B has no account here; log in with `wandb login`, "
            "set WANDB_API_KEY, or set log.wandb_mode=offline"
        )


def _wanted_mode(mode: str) -> str | None:
    return os.environ.get("WANDB_MODE") if mode == "auto" else mode


def _has_account() -> bool:
    """Asks W&B for an API key, which it seeks in the environment, in netrc and in its settings."""
    try:
        import wandb

        # Silent, since it would ask the server for the account's name only to tell it.
        wandb.setup(settings=wandb.Settings(silent=True, mode="online"))
        return wandb.login(prompt=False, verify=False)
    except Exception:  # is told when the run starts
        return True
