"""The run's folder, and the log files of its processes."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from md2dist.distributed.world import World
from md2dist.errors import ConfigError
from md2dist.storage.atomic import atomic_write
from md2dist.storage.locks import is_same_file, try_lock

logger = logging.getLogger(__name__)

_PATIENCE_S = 120.0  # on a network file system, the locks of a lost node live on for a while
_locks: dict[Path, TextIO] = {}  # by folder; open until the end of the process, as the lock is


def lock_run_dir(run_dir: Path) -> None:
    """Closes a run's folder, where there is one, to other trainings until this process ends.

    Args:
        run_dir: `log.run_dir`.

    Raises:
        ConfigError: if `log.run_dir` cannot be written, another training stays at work in it, or
            one has set the folder aside meanwhile and begun a new one.
    """
    if run_dir.is_dir() and run_dir not in _locks:
        with _writing(run_dir):
            _lock(run_dir)


def open_run_dir(run_dir: Path, settings: str, *, starts_over: bool) -> None:
    """Makes the run's folder, closed to others, and writes the settings to its `config.yaml`.

    Args:
        run_dir: `log.run_dir`.
        settings: the content of `config.yaml`.
        starts_over: sets the folder of an earlier run aside under another name; nothing of it is
            lost.

    Raises:
        ConfigError: if `log.run_dir` cannot be written, or another training has begun in it since
            `lock_run_dir`, which did not find it.
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
                raise _begun_meanwhile(run_dir)
        atomic_write(config_file, settings.encode())


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


@contextmanager
def _writing(run_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"log.run_dir={run_dir} cannot be written: {error.strerror}") from None


def _lock(run_dir: Path) -> None:
    file = (run_dir / ".lock").open("a")
    deadline, is_told = time.monotonic() + _PATIENCE_S, False
    while not try_lock(file, required=False):
        if time.monotonic() >= deadline:
            raise ConfigError(
                f"another training is at work in log.run_dir={run_dir}; wait for its end, or give "
                "this one another folder"
            )
        if not is_told:
            logger.warning("another training is at work in %s; waiting for its end", run_dir)
            is_told = True
        time.sleep(1)
    _check_lock(run_dir, file)
    _locks[run_dir] = file


def _check_lock(run_dir: Path, file: TextIO) -> None:
    """Refuses a lock whose folder another training has set aside to begin a new one."""
    if not is_same_file(file, Path(file.name)):
        raise _begun_meanwhile(run_dir)


def _begun_meanwhile(run_dir: Path) -> ConfigError:
    return ConfigError(
        f"another training has begun in log.run_dir={run_dir} while this one started; wait for its "
        "end, or give this one another folder"
    )


def _free_name(run_dir: Path) -> Path:
    number = 1
    while (name := run_dir.with_name(f"{run_dir.name}.before-{number}")).exists():
        number += 1
    return name
