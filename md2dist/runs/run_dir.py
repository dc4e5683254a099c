"""A run's folder and its lock."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES, ENOTDIR
from pathlib import Path
from typing import TextIO

from md2dist.errors import ConfigError
from md2dist.storage.atomic import atomic_write, set_aside
from md2dist.storage.locks import is_same_file, try_lock, unlock

logger = logging.getLogger(__name__)

_LOCK_NAME = ".lock"
_OWN_FILES = ("config.yaml", "metrics.jsonl", "starts.jsonl", "status.json")
_LOCK_TIMEOUT_S = 120.0  # a network file system keeps the locks of a lost node for a while
_locks: dict[Path, TextIO] = {}  # by folder; open, and thus locked, until the process exits


def lock_run_dir(run_dir: Path) -> None:
    """Locks a run's folder, if it exists, against other runs until this process exits.

    Args:
        run_dir: `log.run_dir`.

    Raises:
        ConfigError: if `log.run_dir` cannot be written, is not the folder of a run, another run
            keeps using it, or another run has renamed the folder meanwhile and started a new one.
    """
    if run_dir.is_dir() and run_dir not in _locks:
        with _writing(run_dir):
            _refuse_other_folder(run_dir)
            _lock(run_dir)


def check_run_dir(run_dir: Path) -> None:
    """Checks, without writing anything, that a run could use its folder now.

    Args:
        run_dir: `log.run_dir`.

    Raises:
        ConfigError: as `lock_run_dir` and `open_run_dir`, but at once if another run uses it.
    """
    with _writing(run_dir):
        place = run_dir
        while not os.path.lexists(place) and place != place.parent:
            place = place.parent
        if not place.is_dir():
            raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR))
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(EACCES, os.strerror(EACCES))
        if place == run_dir:
            _refuse_other_folder(run_dir)
        if (run_dir / _LOCK_NAME).exists():
            with (run_dir / _LOCK_NAME).open("a") as file:
                if not try_lock(file, required=False):
                    raise _used_by_another(run_dir)
                unlock(file)


def open_run_dir(run_dir: Path, settings: str, *, starts_over: bool) -> None:
    """Creates the run's folder, locks it, and writes the settings to its `config.yaml`.

    Args:
        run_dir: `log.run_dir`.
        settings: the content of `config.yaml`.
        starts_over: renames the folder of an earlier run; none of its files is lost.

    Raises:
        ConfigError: if `log.run_dir` cannot be written or renamed, or another run has created it
            since `lock_run_dir`, which found no folder.
    """
    config_file = run_dir / "config.yaml"
    with _writing(run_dir):
        if run_dir in _locks:
            _check_lock(run_dir, _locks[run_dir])
        if starts_over and run_dir in _locks and config_file.exists():
            if Path.cwd().is_relative_to(run_dir.resolve()):
                raise ConfigError(
                    f"log.run_dir={run_dir} holds the current folder, and checkpoint.resume=never "
                    "would rename it; start from another folder, or set another log.run_dir"
                )
            set_aside(run_dir)
            _locks.pop(run_dir).close()
        if run_dir not in _locks:
            run_dir.mkdir(parents=True, exist_ok=True)
            _lock(run_dir)
            if config_file.exists():
                raise _begun_meanwhile(run_dir)
        atomic_write(config_file, settings.encode())


def refuse_other_run(run_dir: Path) -> None:
    """Refuses a folder that was deleted and in which another run has started since.

    Raises:
        ConfigError: if another run has started in `log.run_dir`.
    """
    file = _locks.get(run_dir)
    if file is not None and Path(file.name).exists():
        _check_lock(run_dir, file)


@contextmanager
def _writing(run_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"log.run_dir={run_dir} cannot be written: {error.strerror}") from None


def _refuse_other_folder(run_dir: Path) -> None:
    """Refuses a folder whose files have the names of a run's, but which no run has made."""
    is_ours = (run_dir / _LOCK_NAME).exists() or (run_dir / "checkpoints").is_dir()
    others = [name for name in _OWN_FILES if os.path.lexists(run_dir / name)]
    if others and not is_ours:
        raise ConfigError(
            f"log.run_dir={run_dir} is not the folder of a run, and its {others[0]} would be "
            "overwritten; set another log.run_dir"
        )


def _lock(run_dir: Path) -> None:
    file = (run_dir / _LOCK_NAME).open("a")
    deadline, is_reported = time.monotonic() + _LOCK_TIMEOUT_S, False
    while not try_lock(file, required=False):
        if time.monotonic() >= deadline:
            raise _used_by_another(run_dir)
        if not is_reported:
            logger.warning("another run is using %s; waiting until it ends", run_dir)
            is_reported = True
        time.sleep(1)
    _check_lock(run_dir, file)
    _locks[run_dir] = file


def _check_lock(run_dir: Path, file: TextIO) -> None:
    """Refuses the lock of a folder that another run has renamed to start a new one."""
    if not is_same_file(file, Path(file.name)):
        raise _begun_meanwhile(run_dir)


def _used_by_another(run_dir: Path) -> ConfigError:
    return ConfigError(
        f"another run is using log.run_dir={run_dir}; wait until it ends, or set another "
        "log.run_dir"
    )


def _begun_meanwhile(run_dir: Path) -> ConfigError:
    return ConfigError(
        f"another run has started in log.run_dir={run_dir} since this one was launched; wait until "
        "it ends, or set another log.run_dir"
    )
