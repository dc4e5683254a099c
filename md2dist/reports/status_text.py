"""Status of a run as a few lines that fit a terminal of 80 columns."""

import textwrap
import time
from collections.abc import Iterator, Mapping

from md2dist.reports.resume_command import note_on_command
from md2dist.reports.run_state import RunState

_WIDTH, _INDENT = 80, 10
_MOST_PROBLEMS = 6
_LATEST = {
    "train/loss": "loss", "train/lr": "rate", "train/gradient_norm": "gradient norm",
    "train/data_wait": "data wait",
}  # fmt: skip
_SCORES = ("abs_rel", "rmse", "a1")


def format_status(state: RunState) -> str:
    """Returns the lines of a run; only a path or a command may be longer than 80 columns."""
    lines = [state.run]
    for name, text in _rows(state):
        lines += _wrap(name, text)
    return "\n".join([*lines, *_files(state)])


def format_duration(seconds: float) -> str:
    """Formats a duration by its two largest units.

    >>> format_duration(75), format_duration(7300), format_duration(200_000)
    ('1 min 15 s', '2 h 1 min', '2 d 7 h')
    """
    seconds = round(seconds)
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    parts = []
    for name, size in units:
        count, seconds = divmod(seconds, size)
        if count or parts or name == "s":
            parts.append((name, count))
    return " ".join(f"{count} {name}" for name, count in parts[:2] if count or len(parts) == 1)


def format_time(seconds: float) -> str:
    """Formats a time in s since 1970, by the clock of this place."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):  # of a file that is not ours, or damaged
        return "unknown"


def _rows(state: RunState) -> Iterator[tuple[str, str]]:
    yield "now", describe_activity(state)
    yield "step", describe_position(state)
    if state.steps_per_second is not None:
        yield "speed", _describe_speed(state)
    if state.remaining_s is not None and state.ends_at is not None:
        end = format_time(state.ends_at)
        yield "ends", f"in {format_duration(state.remaining_s)}, {end}"
    if state.metrics_step is not None:
        yield "latest", f"step {state.metrics_step}: {_describe_metrics(state)}"
    if state.best_step is not None:
        yield "best", f"step {state.best_step}: {_describe_scores(state.best)}"
    for problem in state.problems[-_MOST_PROBLEMS:]:
        yield "before", problem
    if (hidden := len(state.problems) - _MOST_PROBLEMS) > 0:
        yield "before", f"{hidden} earlier problems: see --json"
    if state.host:
        yield "machine", f"{state.host}, {state.devices}"
    else:
        yield "machine", "not recorded: the run was started by an earlier version"


def describe_activity(state: RunState) -> str:
    """Describes in a few words what a run does, or how it ended."""
    ago = f"{format_duration(state.updated_s_ago)} ago"
    if state.silent_s is not None:
        doing = f"; last {state.detail}" if state.detail else ""
        return f"silent for {format_duration(state.silent_s)}{doing}: is it dead?"
    if state.activity in ("finished", "preempted", "failed"):
        message = f": {state.detail}" if state.detail else ""
        return f"{state.activity} {ago}{message}"
    doing = f": {state.detail}" if state.detail not in ("", state.activity) else ""
    return f"{state.activity}{doing} ({ago})"


def describe_position(state: RunState) -> str:
    """Describes step, epoch and last checkpoint."""
    position = f"{state.step:,}"
    if state.last_step is not None:
        share = state.step / max(state.last_step, 1)
        position += f" of {state.last_step:,} ({share:.1%})"
    if state.epoch is not None:
        total = f" of {state.num_epochs}" if state.num_epochs is not None else ""
        position += f", epoch {state.epoch + 1}{total}"
    saved = "nothing saved" if state.saved_step is None else f"saved at {state.saved_step:,}"
    return f"{position}, {saved}"


def _describe_speed(state: RunState) -> str:
    assert state.steps_per_second is not None
    text = f"{state.steps_per_second:.3g} steps/s with pauses"
    if state.samples_per_second is not None:
        text += f", {state.samples_per_second:.3g} samples/s while training"
    return text


def _describe_metrics(state: RunState) -> str:
    parts = [
        f"{label} {_format(state.metrics[name], name)}"
        for name, label in _LATEST.items()
        if name in state.metrics
    ]
    scores = {name: value for name, value in state.metrics.items() if name.startswith("val/")}
    plain = {name.removeprefix("val/"): value for name, value in scores.items()}
    if text := _describe_scores(plain):
        parts.append(f"validation {text}")
    return ", ".join(parts)


def _describe_scores(scores: Mapping[str, float | None]) -> str:
    return ", ".join(f"{name} {_format(scores[name])}" for name in _SCORES if name in scores)


def _format(value: float | None, name: str = "") -> str:
    if value is None:
        return "not finite"
    return f"{value:.0%}" if name == "train/data_wait" else f"{value:.4g}"


def _files(state: RunState) -> list[str]:
    lines = _wrap("files", "metrics.jsonl, starts.jsonl, logs/, checkpoints/")
    if state.next_command:
        name = "next" if state.activity == "finished" else "continue"
        lines.append(f"{name:<{_INDENT}}{state.next_command}")
        if note := note_on_command(state.next_command):
            lines += _wrap("", note)
    elif state.activity != "finished":
        lines += _wrap("continue", "with the command that started it")
    return lines


def _wrap(name: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=f"{name:<{_INDENT}}",
        subsequent_indent=" " * _INDENT,
        max_lines=4,
        placeholder=" ...",
    )
