"""The run's folder, and the log files of its processes."""

import fcntl
import logging
from pathlib import Path
from typing import TextIO

from md2dist.config import Config, save_config
from md2dist.errors import ConfigError
from md2dist.training.world import World

logger = logging.getLogger(__name__)

_locks: list[TextIO] = []  # open until the end of the process, and a lock with each


def open_run_dir(config: Config) -> None:
    """Makes the run's folder and writes the resolved settings to its `config.yaml`.

    With `checkpoint.resume=never` the folder of an earlier run is set aside under another name;
    nothing of it is lost. Until this process ends, the folder is closed to other trainings.

    Raises:
        ConfigError: if `log.run_dir` cannot be written, or another training is at work in it.
    """
    run_dir = Path(config.log.run_dir)
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        _lock(run_dir)
        if config.checkpoint.resume == "never" and (run_dir / "config.yaml").exists():
            run_dir.rename(_free_name(run_dir))
            run_dir.mkdir()
            _lock(run_dir)
        save_config(config, run_dir / "config.yaml")
    except OSError as error:
        raise ConfigError(f"log.run_dir={run_dir} cannot be written: {error.strerror}") from None


def start_logging(run_dir: str, world: World) -> None:
    """Sends this process's messages to `logs/rank-N.log`, the important ones to the terminal."""
    folder = Path(run_dir) / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.INFO if world.is_main else logging.WARNING)
    logger = logging.getLogger("md2dist")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for handler in (terminal, logging.FileHandler(folder / f"rank-{world.rank}.log")):
        handler.setFormatter(
            logging.Formatter(f"%(asctime)s rank {world.rank} %(levelname)s %(message)s")
        )
        logger.addHandler(handler)


def _lock(run_dir: Path) -> None:
    file = (run_dir / ".lock").open("a")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of this process, not of those it forks
    except (BlockingIOError, PermissionError):
        raise ConfigError(
            f"another training is at work in log.run_dir={run_dir}; wait for its end, or give this "
            "one another folder"
        ) from None
    except OSError as error:
        logger.warning("%s cannot be locked against a second training: %s", run_dir, error.strerror)
    _locks.append(file)


def _free_name(run_dir: Path) -> Path:
    number = 1
    while (name := run_dir.with_name(f"{run_dir.name}.before-{number}")).exists():
        number += 1
    return name
