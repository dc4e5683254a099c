"""Record of a run: everything that its folder says about it, read without changing anything."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from md2dist.config import Config, load_config, public_settings
from md2dist.config_merge import flatten
from md2dist.console import make_presentable
from md2dist.errors import CheckpointError, ConfigError, RunError
from md2dist.reports.history import History, read_history
from md2dist.runs.checkpoint_folder import find_best, read_validation
from md2dist.runs.checkpoint_manifest import read_manifest
from md2dist.runs.checkpoint_names import list_checkpoints, step_of
from md2dist.runs.start_log import Start, read_starts
from md2dist.runs.status_file import Status, read_status

_FIRST_LINE = "# resolved at the last start: "
_Kind = TypeVar("_Kind")


@dataclass(frozen=True)
class Scored:
    """A checkpoint with the metrics of its validation."""

    step: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class RunRecord:
    """A run, as its folder describes it."""

    folder: Path
    name: str  # harmless to a terminal
    status: Status
    history: History
    starts: list[Start]  # empty in runs of earlier versions
    config: Config | None  # None if this version cannot read it
    settings: dict[str, Any] = field(default_factory=dict)  # by dotted keys, resolved; or empty
    config_error: str = ""
    best: Scored | None = None
    saved_step: int | None = None  # of the newest checkpoint
    num_skipped: int = 0  # steps over the whole run

    @property
    def start(self) -> Start | None:
        """The last start."""
        return self.starts[-1] if self.starts else None

    @property
    def last_step(self) -> int | None:
        """Step at which the run ends; None if no file says it."""
        if self.start is not None:
            return self.start.last_step
        return self.config.optim.max_steps if self.config else None


def read_run(folder: Path) -> RunRecord:
    """Reads the folder of a run, which may be running.

    Raises:
        RunError: if it is none, has not begun, or its status cannot be read.
    """
    if not folder.is_dir():
        raise RunError(f"{folder} is not a folder; expected the folder of a run (log.run_dir)")
    status = _reading(folder, lambda: read_status(folder))
    if status is None:
        raise RunError(_describe_missing_status(folder))
    config, error = _load_settings(folder / "config.yaml")
    history = _reading(folder, lambda: read_history(folder / "metrics.jsonl"))
    newest = _newest_checkpoint(folder / "checkpoints")
    return RunRecord(
        folder=folder,
        name=make_presentable(folder.resolve().name),
        status=status,
        history=history,
        starts=_reading(folder, lambda: read_starts(folder)),
        config=config,
        settings=_flat_settings(config, folder / "config.yaml") if config else {},
        config_error=error,
        best=_find_best(folder / "checkpoints"),
        saved_step=newest,
        num_skipped=_count_skipped(folder / "checkpoints", newest, history),
    )


def _reading(folder: Path, read: Callable[[], _Kind]) -> _Kind:
    try:
        return read()
    except OSError as error:
        raise RunError(f"{error.filename or folder} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise RunError(
            f"{folder / 'status.json'} is damaged, or of a version that this one cannot read: "
            f"{error}; logs/rank-0.log has the history of the run"
        ) from None


def _describe_missing_status(folder: Path) -> str:
    if (folder / "config.yaml").is_file() or (folder / ".lock").is_file():
        return (
            f"{folder} has no status.json: its first start is in progress, or failed before the "
            "first step; the terminal of the training and logs/rank-0.log say more"
        )
    return f"{folder} is not the folder of a run: it has no status.json; pass log.run_dir"


def _load_settings(path: Path) -> tuple[Config | None, str]:
    try:
        return load_config([path]), ""
    except ConfigError as error:
        return None, str(error)


def _flat_settings(config: Config, path: Path) -> dict[str, Any]:
    """Returns all settings, with what `auto` and null resolved to in their place."""
    settings = flatten(public_settings(config))
    with path.open(encoding="utf-8", errors="replace") as file:
        heading = file.readline(4096)
    if heading.startswith(_FIRST_LINE):
        pairs = (word.split("=", 1) for word in heading.removeprefix(_FIRST_LINE).split())
        settings |= {pair[0]: pair[1] for pair in pairs if pair[0] in settings and len(pair) == 2}
    return settings


def _newest_checkpoint(folder: Path) -> int | None:
    return next((step_of(path.name) for path in list_checkpoints(folder)), None)


def _find_best(folder: Path) -> Scored | None:
    best = find_best(folder)
    metrics = read_validation(best) if best else None
    if best is None or metrics is None:
        return None
    numbers = {k: float(v) for k, v in metrics.items() if isinstance(v, int | float)}
    return Scored(step_of(best.name) or 0, numbers)


def _count_skipped(folder: Path, newest: int | None, history: History) -> int:
    """Counts skipped steps: those of the newest checkpoint, and those logged since."""
    before = 0.0
    if newest is not None:
        try:
            before = read_manifest(list_checkpoints(folder)[0]).facts.guard.num_skipped
        except CheckpointError:
            newest = None
    skipped = history.get("train/skipped_steps")
    pairs = zip(skipped.steps, skipped.values, strict=True)
    since = sum(count for step, count in pairs if step > (newest or 0) and count == count)
    return round(before + since)
