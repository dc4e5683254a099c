"""Sections of a report: each maps runs to HTML."""

from collections.abc import Iterable, Sequence
from typing import Any

from md2dist.published_figures import METRICS
from md2dist.reports.charts import label_runs, training_charts, validation_charts
from md2dist.reports.html import Html, join, table, tag
from md2dist.reports.line_chart import draw_chart
from md2dist.reports.panels import draw_panels
from md2dist.reports.problems import list_problems
from md2dist.reports.published import Published, find_published, format_setting
from md2dist.reports.run_record import RunRecord
from md2dist.reports.run_state import RunState
from md2dist.reports.status_text import describe_activity, describe_position, format_time

_PICTURE_BYTES = 1_500_000  # of a report
_MOST_PROBLEMS = 30
_OF_THE_RUN = ("log.run_dir",)  # differs between any two runs


def show_states(runs: Sequence[RunRecord], states: Sequence[RunState]) -> Html:
    """What each run does, how far it is, where it is and how it continues."""
    cards = []
    for label, run, state in zip(label_runs(runs), runs, states, strict=True):
        rows = [("state", describe_activity(state)), ("step", describe_position(state))]
        if state.samples_per_second is not None:
            rows.append(("speed", f"{state.samples_per_second:.3g} samples/s while training"))
        if run.best is not None and "abs_rel" in run.best.metrics:
            score = f"{run.best.metrics['abs_rel']:.4f} at step {run.best.step:,}"
            rows.append(("best abs_rel", score))
        rows.append(("folder", str(run.folder)))
        if state.next_command:
            name = "next" if state.activity == "finished" else "continue"
            words = [tag("span", word) for word in state.next_command.split(" ")]
            rows.append((name, tag("code", join(words, " "))))
        terms = [tag("div", tag("dt", name), tag("dd", text)) for name, text in rows]
        heading = tag("h3", tag("span", class_=f"key c{len(cards) % 8}", aria_hidden="true"), label)
        cards.append(tag("article", heading, tag("dl", *terms)))
    return tag("div", *cards, class_="cards")


def show_problems(runs: Sequence[RunRecord]) -> Html:
    """Restarts, failures and skipped steps."""
    rows, notes = [], []
    for label, run in zip(label_runs(runs), runs, strict=True):
        problems = list_problems(run)
        rows += [(label, f"{p.step:,}", p.text) for p in problems[-_MOST_PROBLEMS:]]
        if len(problems) > _MOST_PROBLEMS:
            notes.append(f"{label}: {len(problems) - _MOST_PROBLEMS} earlier ones are left out.")
        if run.num_skipped:
            notes.append(f"{label}: {run.num_skipped:,} skipped steps over the whole run.")
        if not run.starts:
            notes.append(f"{label}: an earlier version, which did not record restarts, ran it.")
        if run.history.is_cut:
            notes.append(f"{label}: metrics.jsonl is longer than what is read here.")
    parts = [table(("run", "step", "what happened"), rows, "What happened before")] if rows else []
    parts += [tag("p", note) for note in notes]
    return join(parts) if parts else tag("p", "No restarts, skipped steps or faults.")


def show_training(runs: Sequence[RunRecord]) -> Html:
    """Curves of training."""
    return tag("div", *map(draw_chart, training_charts(runs)), class_="charts")


def show_validation(runs: Sequence[RunRecord], published: Sequence[Published | None]) -> Html:
    """Curves of validation, and the table of metrics beside the published ones."""
    charts = list(map(draw_chart, validation_charts(runs, published)))
    if not charts:
        return tag("p", "Not validated: data.val_shards was not set, or no epoch has ended.")
    rows: list[Iterable[object]] = []
    for label, run in zip(label_runs(runs), runs, strict=True):
        if run.best is not None:
            cells = [_figure(run.best.metrics.get(name)) for name in METRICS]
            rows.append((f"{label}, best", f"{run.best.step:,}", *cells))
        last = [run.history.get(f"val/{name}") for name in METRICS]
        if last[0]:
            step = f"{last[0].steps[-1]:,.0f}"
            cells = [_figure(series.values[-1] if series else None) for series in last]
            rows.append((f"{label}, last", step, *cells))
    rows += [
        (f"published {p.name}", "", *(f"{p.figures[name]:.3f}" for name in METRICS))
        for p in {other.name: other for other in published if other is not None}.values()
    ]
    note = tag(
        "p",
        "Published figures are those of the paper on the 697 images of KITTI's eigen test set; "
        "figures on other validation images cannot be compared with them.",
        class_="note",
    )
    scores = table(("run", "step", *METRICS), rows, "Depth metrics of validations")
    return join([tag("div", *charts, class_="charts"), scores, note])


def show_pictures(runs: Sequence[RunRecord]) -> Html:
    """Validation images over time."""
    parts: list[Html] = []
    for label, run in zip(label_runs(runs), runs, strict=True):
        if len(runs) > 1:
            parts.append(tag("h3", label))
        parts.append(draw_panels(run, _PICTURE_BYTES // len(runs)))
    return join(parts)


def show_settings(runs: Sequence[RunRecord], published: Sequence[Published | None]) -> Html:
    """Settings that differ from the published ones, and between the runs."""
    labels, parts = label_runs(runs), []
    for label, run, other in zip(labels, runs, published, strict=True):
        if run.config is None:
            parts.append(tag("p", f"{label}: its settings cannot be read: {run.config_error}"))
        elif other is None or not other.differences:
            parts.append(tag("p", f"{label}: no differences from a published experiment."))
        else:
            caption = f"{label}: differences from the published {other.name}"
            parts.append(table(("setting", label, "published"), other.differences, caption))
    if len(runs) > 1:
        parts.append(_compare(labels, [run.settings for run in runs]))
    return join(parts)


def show_machines(runs: Sequence[RunRecord]) -> Html:
    """Machine and versions of the last start of each run."""
    columns = []
    for run in runs:
        start = run.start
        columns.append({} if start is None else {
            "started": format_time(start.time),
            "starts": str(len(run.starts)),
            "host": start.host,
            "devices": start.devices,
            "samples per step": f"{start.global_batch_size:,}",
            **start.versions,
        })  # fmt: skip
    return _side_by_side(runs, columns, "Machine and versions of the last start")


def show_data(runs: Sequence[RunRecord]) -> Html:
    """Data-set cards of the shards of each run, as it recorded them."""
    train = [run.start.train_shards if run.start else {} for run in runs]
    val = [run.start.val_shards if run.start else {} for run in runs]
    parts = [_side_by_side(runs, train, "Training shards")]
    if any(val):
        parts.append(_side_by_side(runs, val, "Validation shards"))
    return join(parts)


def choose_published(runs: Sequence[RunRecord]) -> list[Published | None]:
    """Returns the published experiment of each run; None where there is none."""
    return [find_published(run.config, run.settings) if run.config else None for run in runs]


def _side_by_side(
    runs: Sequence[RunRecord], columns: Sequence[dict[str, str]], caption: str
) -> Html:
    names = list(dict.fromkeys(name for column in columns for name in column))
    if not names:
        return tag("p", f"{caption}: not recorded by the version that ran it.")
    rows = [(name, *(column.get(name, "") for column in columns)) for name in names]
    return table(("", *label_runs(runs)), rows, caption)


def _compare(labels: Sequence[str], settings: Sequence[dict[str, Any]]) -> Html:
    """Compares the settings of runs with each other."""
    keys = dict.fromkeys(key for own in settings for key in own if key not in _OF_THE_RUN)
    rows = []
    for key in keys:
        values = [format_setting(own[key]) if key in own else "?" for own in settings]
        if len(set(values)) > 1:
            rows.append((key, *values))
    if not rows:
        return tag("p", "The runs have the same settings.")
    return table(("setting", *labels), rows, "Differences between the runs")


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}" if value == value else "not finite"
