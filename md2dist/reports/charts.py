"""The charts of a report: loss, rate, validation and speed over the steps of some runs."""

import math
from collections.abc import Iterator, Sequence

from md2dist.published_figures import METRICS
from md2dist.reports.line_chart import Chart, Curve, Mark, Reference
from md2dist.reports.published import Published
from md2dist.reports.run_record import RunRecord

_MOST_MARKS = 100  # of a run and kind
_PLAIN = (
    ("train/lr", "Learning rate", ""),
    ("train/gradient_norm", "Gradient norm", ""),
    ("train/samples_per_second", "Speed", "samples/s"),
    ("train/data_wait", "Wait for data", "share of the time"),
)
_UNITS = {"sq_rel": "m", "rmse": "m"}
_SCALE = "train/loss_scale_"


def training_charts(runs: Sequence[RunRecord]) -> Iterator[Chart]:
    """Yields the charts of training; the scales of a single run share one."""
    last = _last_step(runs)
    marks = [mark for number, run in enumerate(runs) for mark in _list_marks(run, number)]
    tall = [mark for mark in marks if mark.is_tall]
    scales = sorted({n for run in runs for n in run.history.series if n.startswith(_SCALE)})
    if len(runs) == 1:
        names = [("train/loss", "mean"), *((n, f"scale {n[len(_SCALE) :]}") for n in scales)]
        curves = [
            Curve(label, colour, *_columns(runs[0], name))
            for colour, (name, label) in enumerate(names)
        ]
        yield Chart("Loss", "", curves, last, marks)
    else:
        yield Chart("Loss", "mean of the scales", _curves(runs, "train/loss"), last, marks)
        for name in scales:
            title = f"Loss at scale {name[len(_SCALE) :]}"
            yield Chart(title, "", _curves(runs, name), last, tall)
    for name, title, unit in _PLAIN:
        is_gradient = name == "train/gradient_norm"
        shown, may_be_log = marks if is_gradient else tall, name != "train/data_wait"
        yield Chart(title, unit, _curves(runs, name), last, shown, may_be_log=may_be_log)


def validation_charts(
    runs: Sequence[RunRecord], published: Sequence[Published | None]
) -> Iterator[Chart]:
    """Yields a chart of each metric that a run has validated, with the published figures."""
    for metric in METRICS:
        curves = _curves(runs, f"val/{metric}")
        if any(len(curve.steps) for curve in curves):
            lines = {
                other.name: Reference(f"published {other.name}", other.figures[metric], colour)
                for colour, other in reversed(list(enumerate(published)))
                if other is not None
            }
            last, unit = _last_step(runs), _UNITS.get(metric, "")
            ordered = [*lines.values()][::-1]
            yield Chart(metric, unit, curves, last, (), ordered, may_be_log=False)


def label_runs(runs: Sequence[RunRecord]) -> list[str]:
    """Returns a short name for each run; runs of the same name are numbered."""
    names = [run.name[:40] for run in runs]
    return [
        f"{name} ({names[: number + 1].count(name)})" if names.count(name) > 1 else name
        for number, name in enumerate(names)
    ]


def _curves(runs: Sequence[RunRecord], name: str) -> list[Curve]:
    labels = label_runs(runs)
    return [
        Curve(label, number, *_columns(run, name))
        for number, (label, run) in enumerate(zip(labels, runs, strict=True))
    ]


def _columns(run: RunRecord, name: str) -> tuple[Sequence[float], Sequence[float]]:
    series = run.history.get(name)
    return series.steps, series.values


def _list_marks(run: RunRecord, colour: int) -> Iterator[Mark]:
    for start in run.starts[1:][-_MOST_MARKS:]:
        yield Mark(start.first_step, f"{run.name}: restart at step {start.first_step}", colour)
    skipped = run.history.get("train/skipped_steps")
    found = [
        (step, count)
        for step, count in zip(skipped.steps, skipped.values, strict=True)
        if math.isfinite(count) and count > 0
    ]
    for step, count in found[-_MOST_MARKS:]:
        text = f"{run.name}: {count:.0f} skipped up to step {step:.0f}"
        yield Mark(step, text, colour, is_tall=False)


def _last_step(runs: Sequence[RunRecord]) -> float:
    return max(run.history.last_step() for run in runs)
