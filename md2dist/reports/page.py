"""Report of runs as one HTML page that needs neither scripts nor a network."""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from md2dist.reports.html import Html, join, tag
from md2dist.reports.run_record import RunRecord
from md2dist.reports.run_state import describe_state
from md2dist.reports.sections import (
    choose_published,
    show_data,
    show_machines,
    show_pictures,
    show_problems,
    show_settings,
    show_states,
    show_training,
    show_validation,
)
from md2dist.reports.status_text import format_time
from md2dist.storage.bounded import open_regular

_MARK = '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="generator" '
_START = f'{_MARK}content="md2dist report">'


def render_report(runs: Sequence[RunRecord], now: float) -> bytes:
    """Renders runs as one page.

    Args:
        runs: one or more.
        now: s since 1970.

    Returns:
        The HTML file, in UTF-8.
    """
    states = [describe_state(run, now) for run in runs]
    published = choose_published(runs)
    title = "Report of " + ", ".join(run.name for run in runs[:3]) + ", ..." * (len(runs) > 3)
    written = format_time(now)
    sections = {
        "Runs": show_states(runs, states),
        "Training": show_training(runs),
        "Validation": show_validation(runs, published),
        "Pictures": show_pictures(runs),
        "Restarts and faults": show_problems(runs),
        "Settings": show_settings(runs, published),
        "Machine": show_machines(runs),
        "Data": show_data(runs),
    }
    legend = tag(
        "p",
        "Each column shows a validation image, its predicted disparity (near is bright), the "
        "ground truth, and the relative error against it (blue 0, red 0.5 or more).",
        class_="note",
    )
    sections["Pictures"] = join([legend, sections["Pictures"]])
    body = [tag("section", tag("h2", name), content) for name, content in sections.items()]
    return _frame(
        title,
        join([tag("header", tag("h1", title), tag("p", f"Written {written} by md2dist.")), *body]),
    ).encode(errors="replace")


def is_report(path: Path) -> bool:
    """Returns whether md2dist wrote a file as a report."""
    try:
        with open_regular(path) as file:
            return file.read(len(_START)) == _START.encode()
    except OSError:
        return False


def _frame(title: str, body: Html) -> str:
    style = files("md2dist.reports").joinpath("style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; "
    policy += "form-action 'none'"
    head = [
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name_="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Html(style)),
    ]
    return f"{_START}{join(head)}</head>{tag('body', tag('main', body))}</html>\n"
