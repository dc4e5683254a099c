"""Run folder: exclusive lock, settings file and log files of the ranks."""

import fcntl
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from md2dist.distributed.world import World
from md2dist.errors import ConfigError
from md2dist.storage.atomic import atomic_write, is_same_file

logger = logging.getLogger(__name__)

_LOCK_TIMEOUT_S = 120.0  # on network file systems, the locks of a lost node persist for a while
_locks: dict[Path, TextIO] = {}  # by folder; an open file holds its lock, until the process ends


def lock_run_dir(run_dir: Path) -> None:
    """Locks a run's folder, if it exists, against other runs until this process ends.

    Args:
        run_dir: `log.run_dir`.

    Raises:
        ConfigError: if `log.run_dir` cannot be written, if another run holds the lock for 120 s,
            or if another run renamed the folder meanwhile and started a new one.
    """
    if run_dir.is_dir():
        with _writing(run_dir):
            _lock(run_dir)


def open_run_dir(run_dir: Path, settings: str, *, starts_over: bool) -> None:
    """Creates and locks the run's folder, and writes the settings to its `config.yaml`.

    Args:
        run_dir: `log.run_dir`.
        settings: the content of `config.yaml`.
        starts_over: renames the folder of an earlier run instead of using it; no file is lost.

    Raises:
        ConfigError: if `log.run_dir` cannot be written, or if another run created it after
            `lock_run_dir` found no folder.
    """
    config_file = run_dir / "config.yaml"
    with _writing(run_dir):
        if run_dir in _locks:
            _check_lock(run_dir, _locks[run_dir])
        if starts_over and run_dir in _locks and config_file.exists():
            run_dir.rename(_free_name(run_dir))
            _locks.pop(run_dir).close()
        if run_dir not in _locks:
            run_dir.mkdir(parents=True, exist_ok=True)
            _lock(run_dir)
            if config_file.exists():
                raise _started_meanwhile(run_dir)
        atomic_write(config_file, settings.encode())


def start_logging(run_dir: str, world: World) -> None:
    """Logs to `logs/rank-N.log`, and to the terminal: all of rank 0, warnings of the others."""
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


@contextmanager
def _writing(run_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"log.run_dir={run_dir} cannot be written: {error.strerror}") from None


def _lock(run_dir: Path) -> None:
    file = (run_dir / ".lock").open("a")
    deadline, is_logged = time.monotonic() + _LOCK_TIMEOUT_S, False
    while not _try_lock(file):
        if time.monotonic() >= deadline:
            raise ConfigError(
                f"another run is using log.run_dir={run_dir}; wait until it ends, or set another "
                "log.run_dir"
            )
        if not is_logged:
            logger.warning("another run is using %s; waiting until it ends", run_dir)
            is_logged = True
        time.sleep(1)
    _check_lock(run_dir, file)
    _locks[run_dir] = file


def _check_lock(run_dir: Path, file: TextIO) -> None:
    """Raises if another run renamed the folder of this lock to start a new run."""
    if not is_same_file(file.fileno(), Path(file.name)):
        raise _started_meanwhile(run_dir)


def _started_meanwhile(run_dir: Path) -> ConfigError:
    return ConfigError(
        f"another run started in log.run_dir={run_dir} while this one was starting; wait until it "
        "ends, or set another log.run_dir"
    )


def _try_lock(file: TextIO) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held by this process, not by forked ones
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        logger.warning("%s cannot be locked against other runs: %s", file.name, error.strerror)
    return True


def _free_name(run_dir: Path) -> Path:
    number = 1
    while (name := run_dir.with_name(f"{run_dir.name}.before-{number}")).exists():
        number += 1
    return name
