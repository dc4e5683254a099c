"""What went wrong in a run: restarts, failures, skipped steps, silence."""

from typing import NamedTuple

from md2dist.reports.run_record import RunRecord
from md2dist.runs.status_file import PERIOD_S, Status

_SILENT_S = 8 * PERIOD_S
_SILENT_BEFORE_S = 1800.0  # of earlier versions, which wrote the status with the metrics only


class Problem(NamedTuple):
    """Something that went wrong."""

    step: int
    text: str


def silence(status: Status, now: float) -> float | None:
    """Returns for how many s a running run has been silent; None if it is not suspiciously long."""
    limit = _SILENT_S if status.activity else _SILENT_BEFORE_S
    seconds = now - status.time
    return seconds if status.status == "running" and seconds > limit else None


def list_problems(run: RunRecord) -> list[Problem]:
    """Lists what went wrong before, oldest first; the end of the last start is its status."""
    problems = [
        Problem(start.first_step, f"{_describe_end(start.before)}; resumed at {start.first_step}")
        for start in run.starts
        if start.before is not None and start.before.status != "finished"
    ]
    skipped = run.history.get("train/skipped_steps")
    steps = [
        Problem(int(step), f"{count:.0f} of the steps up to {step:.0f} skipped: not finite")
        for step, count in zip(skipped.steps, skipped.values, strict=True)
        if count > 0
    ]
    return sorted(problems + steps)


def _describe_end(before: Status) -> str:
    if before.status == "running":
        return f"killed without a word at step {before.step} or later"
    message = f": {before.message}" if before.message else ""
    return f"{before.status} at step {before.step}{message}"
