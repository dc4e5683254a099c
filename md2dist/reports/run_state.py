"""State of a run at a moment: what it does, how far and how fast it is, when it ends."""

from dataclasses import dataclass, field
from math import isfinite
from typing import Literal

from md2dist.reports.problems import list_problems, silence
from md2dist.reports.resume_command import next_command
from md2dist.reports.run_record import RunRecord

_WINDOW = 30  # lines of metrics.jsonl over which speed is measured
_WAIT_S = 5.0  # of waiting for data, from which on it is worth a word
Activity = Literal[
    "starting", "waiting for data", "training", "saving", "validating",
    "finished", "preempted", "failed", "silent",
]  # fmt: skip
_KINDS: dict[str, Activity] = {
    "starting": "starting", "saving": "saving", "validating": "validating",
}  # fmt: skip


@dataclass(frozen=True)
class RunState:
    """State of a run; the names are those of `md2dist status --json`."""

    run: str  # folder
    activity: Activity
    detail: str  # message of a failure, or what the main rank does
    updated_s_ago: float
    silent_s: float | None  # None unless it is suspicious
    step: int
    last_step: int | None
    epoch: int | None  # counted from 0
    num_epochs: int | None
    steps_per_second: float | None
    samples_per_second: float | None
    ends_at: float | None  # s since 1970
    remaining_s: float | None
    metrics_step: int | None
    metrics: dict[str, float | None] = field(default_factory=dict)  # null: not finite
    best_step: int | None = None
    best: dict[str, float] = field(default_factory=dict)
    saved_step: int | None = None
    problems: list[str] = field(default_factory=list)
    host: str = ""
    devices: str = ""
    next_command: str = ""


def describe_state(run: RunRecord, now: float) -> RunState:
    """Derives the state of a run.

    Args:
        run: its record.
        now: s since 1970.
    """
    status, history, start = run.status, run.history, run.start
    is_running = status.status == "running"
    silent_s = silence(status, now)
    step = max(status.step, history.last_step()) if is_running else status.step
    rate = measure_rate(run)
    remaining_s = None
    if is_running and silent_s is None and rate and run.last_step is not None:
        remaining_s = max(run.last_step - step, 0) / rate
    epoch = history.last("epoch")
    if start is not None:
        epoch = min(step, start.last_step - 1) // start.steps_per_epoch if start.last_step else 0
    names = [name for name in history.series if name.startswith(("train/", "val/"))]
    latest = {name: history.last(name) for name in names}
    best = run.best
    return RunState(
        run=str(run.folder),
        activity=_name_activity(run, silent_s),
        detail=status.activity if is_running else status.message,
        updated_s_ago=round(max(now - status.time, 0.0), 1),
        silent_s=None if silent_s is None else round(silent_s, 1),
        step=step,
        last_step=run.last_step,
        epoch=None if epoch is None or not isfinite(epoch) else int(epoch),
        num_epochs=run.config.optim.num_epochs if run.config else None,
        steps_per_second=rate,
        samples_per_second=_finite(history.last("train/samples_per_second")),
        ends_at=None if remaining_s is None else now + remaining_s,
        remaining_s=remaining_s,
        metrics_step=history.last_step() if history.times else None,
        metrics={name: _finite(value) for name, value in latest.items()},
        best_step=best.step if best else None,
        best={k: v for k, v in best.metrics.items() if isfinite(v)} if best else {},
        saved_step=run.saved_step,
        problems=[problem.text for problem in list_problems(run)],
        host=start.host if start else "",
        devices=start.devices if start else "",
        next_command=next_command(run),
    )


def measure_rate(run: RunRecord) -> float | None:
    """Returns the steps per second of the last lines, with pauses; None if too few tell it."""
    times, begin = run.history.times, run.start.time if run.start else 0.0
    pairs = zip(times.steps[-_WINDOW:], times.values[-_WINDOW:], strict=True)
    recent = [(step, time) for step, time in pairs if time >= begin]
    if len(recent) < 2:
        return None
    (first_step, first_time), (last_step, last_time) = recent[0], recent[-1]
    if last_step <= first_step or last_time <= first_time:
        return None
    return (last_step - first_step) / (last_time - first_time)


def _name_activity(run: RunRecord, silent_s: float | None) -> Activity:
    status = run.status
    if status.status != "running":
        return status.status
    if silent_s is not None:
        return "silent"
    first_word = status.activity.partition(" ")[0]
    if first_word == "reading" and status.activity_s > _WAIT_S:
        return "waiting for data"
    return _KINDS.get(first_word, "training")


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None
