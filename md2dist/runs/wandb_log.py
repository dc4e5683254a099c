"""Weights & Biases logging that never stops or slows the training if W&B fails."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from md2dist.errors import ConfigError
from md2dist.runs.wandb_service import start_service

logger = logging.getLogger(__name__)

_FLUSH_INTERVAL_S = 2.0  # what W&B may lose if its own process is killed


class WandbLog:
    """A W&B run; after a failure it logs one warning and turns itself off.

    Args:
        mode: online, offline, disabled, or auto (online with a W&B account, else offline).
        project: W&B project.
        run_dir: the run's folder; W&B writes its files to `logs/wandb` in it.
        run_id: ID of the W&B run to resume, or None for a new one.
        settings: the resolved configuration, logged with the run.
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
        """ID for resuming the W&B run; None if W&B is off."""
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
        """Finishes the W&B run."""
        if self._run is not None:
            self._guard(lambda: self._run.finish(exit_code=exit_code))

    def _start(
        self, mode: str, project: str, run_dir: Path, run_id: str | None, settings: dict[str, Any]
    ) -> None:
        start_service()
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
            settings=wandb.Settings(
                silent=True,
                init_timeout=60,
                finish_timeout=30,
                console="off",
                x_transaction_log_flush_interval=_FLUSH_INTERVAL_S,
            ),
        )
        if self._run.url:  # None offline
            logger.info("W&B run: %s", self._run.url)

    def _guard(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # no failure of W&B stops the training
            logger.warning("W&B logging is off for the rest of this run: %s", error)
            self._run = None


def check_account(mode: str) -> None:
    """Checks for the account that W&B needs, before W&B would prompt for one.

    Args:
        mode: as for `WandbLog`.

    Raises:
        ConfigError: if W&B should be online and there is no account.
    """
    if _wanted_mode(mode) == "online" and not _has_account():
        source = "WANDB_MODE" if mode == "auto" else "log.wandb_mode"
        raise ConfigError(
            f"{source}=online, but no W&B account was found; log in with `wandb login`, "
            "set WANDB_API_KEY, or set log.wandb_mode=offline"
        )


def _wanted_mode(mode: str) -> str | None:
    return os.environ.get("WANDB_MODE") if mode == "auto" else mode


def _has_account() -> bool:
    """Returns whether W&B finds an API key in the environment, netrc or its settings."""
    try:
        import wandb

        # Otherwise it requests the account's name from the server to print it. `wandb.setup` would
        # start the service.
        os.environ["WANDB_SILENT"] = "true"
        return wandb.login(prompt=False, verify=False)
    except Exception:  # reported when the run starts
        return True
