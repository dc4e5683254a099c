"""Line charts as inline SVG, which take width, type and colours from the page around them.

Lines are in an inner image that is stretched to the width of the page, with strokes that are not;
labels are outside of it, so that type has the same size on a telephone and on a wide screen. Bands
with a title show values under the mouse.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from md2dist.reports.axis import Axis, fit_axis, format_number
from md2dist.reports.downsample import Point, downsample
from md2dist.reports.html import Html, join, tag

NUM_COLOURS = 8
_MOST_POINTS = 4000  # of a chart, over all curves
_WIDTH, _HEIGHT = 2000, 1000  # of the inner image
_LEFT, _RIGHT = 14.0, 1.5  # margins in per cent of the width
_TOP, _PLOT, _BOTTOM = 10, 170, 28  # pixels
_NUM_BANDS = 40
_FEW_POINTS = 60  # up to which each point is a dot


class Curve(NamedTuple):
    """Values over steps."""

    name: str
    colour: int
    steps: Sequence[float]
    values: Sequence[float]  # NaN where not finite


class Mark(NamedTuple):
    """An event at a step: a line over the whole height, or a short one at the bottom."""

    step: float
    text: str
    colour: int
    is_tall: bool = True


class Reference(NamedTuple):
    """A horizontal line, such as a published figure."""

    name: str
    value: float
    colour: int


class Chart(NamedTuple):
    """A chart of some curves."""

    title: str
    unit: str
    curves: Sequence[Curve]
    last_step: float
    marks: Sequence[Mark] = ()
    references: Sequence[Reference] = ()
    may_be_log: bool = True


def draw_chart(chart: Chart) -> Html:
    """Draws a chart as a figure, with a legend if there is more than one curve."""
    curves = [curve for curve in chart.curves if len(curve.steps)]
    finite = [value for curve in curves for value in curve.values if math.isfinite(value)]
    shown = [*finite, *(line.value for line in chart.references)]
    values = fit_axis(shown, may_be_log=chart.may_be_log)
    steps = Axis(0.0, max(chart.last_step, 1.0))
    unit = ", ".join(filter(None, (chart.unit, "logarithmic" * values.is_log)))
    caption = tag("figcaption", chart.title, *([" ", tag("small", unit)] if unit else []))
    if not finite:
        return tag("figure", caption, tag("p", "No finite values."), class_="chart")
    most = max(_MOST_POINTS // len(curves), 60)
    points = [(curve, downsample(curve.steps, curve.values, most)) for curve in curves]
    drawing = tag(
        "svg",
        join(_draw_grid(steps, values)),
        _draw_lines(points, chart, steps, values),
        tag("g", join(_draw_bands(points, chart.marks, steps)), class_="bands"),
        role="img",
        aria_label=f"{chart.title}. {_summarise(curves)}",
        width="100%",
        height=_TOP + _PLOT + _BOTTOM,
    )
    return tag("figure", caption, _draw_legend(chart, curves), drawing, class_="chart")


def _draw_grid(steps: Axis, values: Axis) -> Iterator[Html]:
    for value in values.ticks():
        y = _TOP + _PLOT * (1 - values.share(value))
        at = {"y1": f"{y:.1f}", "y2": f"{y:.1f}"}
        yield tag("line", x1=f"{_LEFT}%", x2=f"{100 - _RIGHT}%", class_="grid", **at)
        label = format_number(value)
        yield tag("text", label, x=f"{_LEFT - 1.5}%", y=f"{y + 4:.1f}", class_="left")
    y = _TOP + _PLOT + 18
    yield tag("text", "step", x="1%", y=y)
    for step in steps.ticks(4):
        kind = "right" if steps.share(step) > 0.95 else "middle"
        yield tag("text", format_number(step), x=f"{_percent(steps, step):.2f}%", y=y, class_=kind)


def _draw_lines(
    points: Sequence[tuple[Curve, list[Point]]], chart: Chart, steps: Axis, values: Axis
) -> Html:
    def place(step: float, value: float) -> str:
        x, y = steps.share(step) * _WIDTH, (1 - values.share(value)) * _HEIGHT
        return f"{x:.0f} {y:.0f}"

    shapes = []
    for line in chart.references:
        kind = f"reference c{line.colour % NUM_COLOURS}"
        shapes.append(tag("path", d=f"M{place(0, line.value)}H{_WIDTH}", class_=kind))
    for mark in chart.marks:
        x = f"{steps.share(mark.step) * _WIDTH:.0f}"
        path = f"M{x} 0V{_HEIGHT}" if mark.is_tall else f"M{x} {_HEIGHT}v-90"
        kind = "restart" if mark.is_tall else "skip"
        shapes.append(tag("path", d=path, class_=f"{kind} c{mark.colour % NUM_COLOURS}"))
    for curve, kept in points:
        shapes.append(tag("path", d=_trace(kept, place), class_=f"line {_style(curve)}"))
        dots = [place(*point) for point in _find_dots(kept)]
        if dots:
            path = "".join(f"M{dot}h0" for dot in dots)
            shapes.append(tag("path", d=path, class_=f"dots c{curve.colour % NUM_COLOURS}"))
        lost = [step for step, value in kept if not math.isfinite(value)]
        if lost:
            path = "".join(f"M{steps.share(step) * _WIDTH:.0f} 0v70" for step in lost)
            shapes.append(tag("path", d=path, class_="lost"))
    return tag(
        "svg",
        *shapes,
        x=f"{_LEFT}%",
        y=_TOP,
        width=f"{100 - _LEFT - _RIGHT}%",
        height=_PLOT,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        preserveAspectRatio="none",
    )


def _trace(points: list[Point], place) -> str:
    path, is_down = [], False
    for step, value in points:
        if math.isfinite(value):
            path.append(f"{'L' if is_down else 'M'}{place(step, value)}")
        is_down = math.isfinite(value)
    return "".join(path)


def _find_dots(points: list[Point]) -> list[Point]:
    """Finds the points that are drawn as dots: all of a few, or those without a neighbour."""
    known = [math.isfinite(value) for _, value in points]
    is_few = len(points) <= _FEW_POINTS
    return [
        point
        for i, point in enumerate(points)
        if known[i] and (is_few or not any(known[max(i - 1, 0) : i] + known[i + 1 : i + 2]))
    ]


def _draw_bands(
    points: Sequence[tuple[Curve, list[Point]]], marks: Sequence[Mark], steps: Axis
) -> Iterator[Html]:
    """Yields bands over the plot, whose titles have the values and the events in them."""
    texts: dict[int, list[str]] = {}
    for curve, kept in points:
        inside: dict[int, list[Point]] = {}
        for point in kept:
            inside.setdefault(_band_of(steps, point[0]), []).append(point)
        for band, found in inside.items():
            texts.setdefault(band, []).append(f"{curve.name}: {_describe_points(found)}")
    for mark in marks:
        texts.setdefault(_band_of(steps, mark.step), []).append(mark.text)
    width = (100 - _LEFT - _RIGHT) / _NUM_BANDS
    for band, lines in sorted(texts.items()):
        title = tag("title", join(lines[:12], "\n"))
        at = {"x": f"{_LEFT + band * width:.2f}%", "width": f"{width:.2f}%"}
        yield tag("rect", title, y=_TOP, height=_PLOT, **at)


def _describe_points(points: list[Point]) -> str:
    """Describes the values of a few neighbouring steps."""
    finite = [value for _, value in points if math.isfinite(value)]
    first, last = points[0][0], points[-1][0]
    where = f"step {last:,.0f}" if first == last else f"steps {first:,.0f} to {last:,.0f}"
    if not finite:
        return f"not finite ({where})"
    ends = dict.fromkeys((format_number(min(finite)), format_number(max(finite))))
    return f"{' to '.join(ends)} ({where})"


def _band_of(steps: Axis, step: float) -> int:
    return min(int(steps.share(step) * _NUM_BANDS), _NUM_BANDS - 1)


def _percent(steps: Axis, step: float) -> float:
    return _LEFT + steps.share(step) * (100 - _LEFT - _RIGHT)


def _draw_legend(chart: Chart, curves: Sequence[Curve]) -> Html:
    entries = []
    if len(curves) > 1:
        entries += [(f"key {_style(curve)}", curve.name) for curve in curves]
    for line in chart.references:
        entries.append((f"key reference c{line.colour % NUM_COLOURS}", line.name))
    if any(mark.is_tall for mark in chart.marks):
        entries.append(("key restart", "restart"))
    if any(not mark.is_tall for mark in chart.marks):
        entries.append(("key skip", "skipped step"))
    num_lost = sum(not math.isfinite(value) for curve in curves for value in curve.values)
    if num_lost:
        entries.append(("key lost", f"not finite ({num_lost:,})"))
    rows = [tag("li", tag("span", class_=kind, aria_hidden="true"), name) for kind, name in entries]
    return tag("ul", *rows, class_="legend") if rows else Html()


def _summarise(curves: Sequence[Curve]) -> str:
    """Describes curves for people who do not see them."""
    sentences = []
    for curve in curves:
        finite = [value for value in curve.values if math.isfinite(value)]
        if finite:
            low, high = format_number(min(finite)), format_number(max(finite))
            last = format_number(finite[-1])
            sentences.append(f"{curve.name}: {low} to {high}, at the end {last}.")
    return " ".join(sentences)


def _style(curve: Curve) -> str:
    dashes = curve.colour // NUM_COLOURS % 3
    return f"c{curve.colour % NUM_COLOURS}" + (f" d{dashes}" if dashes else "")
