"""Validation pictures of a run for its report, within a budget of bytes."""

import base64
import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from md2dist.data.image_reader import decode_rgb
from md2dist.errors import ImageError
from md2dist.reports.html import Html, join, tag
from md2dist.reports.run_record import RunRecord
from md2dist.runs.validation_panels import PanelFile, list_panels
from md2dist.storage.bounded import read_bounded

_MOST_COLUMNS = 6  # pictures of an image
_LARGEST_BYTES = 1 << 18  # of a picture


class _Shown(NamedTuple):
    panel: PanelFile
    content: bytes
    size: tuple[int, int]  # width, height


def draw_panels(run: RunRecord, budget: int) -> Html:
    """Returns rows of pictures over time, one row for each validation image.

    Args:
        run: a run.
        budget: bytes of all pictures.
    """
    panels = list_panels(run.folder)
    numbers = sorted({panel.number for panel in panels})
    rows = []
    for number in numbers[:4]:
        own = [panel for panel in panels if panel.number == number]
        shown = _read_panels(own, budget // min(len(numbers), 4))
        figures = [_draw_panel(run, number, picture) for picture in shown]
        rows.append(tag("div", *figures, class_="panels"))
    if not rows:
        return tag("p", "No validation pictures: the run did not validate, or kept none.")
    return join(rows)


def spread(panels: Sequence[PanelFile], count: int) -> list[PanelFile]:
    """Chooses panels evenly, with the first and the last one."""
    if len(panels) <= count:
        return list(panels)
    return [panels[round(i * (len(panels) - 1) / max(count - 1, 1))] for i in range(count)]


def _read_panels(panels: Sequence[PanelFile], budget: int) -> list[_Shown]:
    """Reads as many evenly spread panels as the budget holds; undecodable ones are left out."""
    read = cache(_read_panel)
    for count in range(_MOST_COLUMNS, 0, -1):
        chosen = [read(panel) for panel in spread(panels, count)]
        shown = [picture for picture in chosen if picture is not None]
        if sum(len(picture.content) for picture in shown) <= budget:
            return shown
    return []


def _read_panel(panel: PanelFile) -> _Shown | None:
    content = _read(panel.path)
    try:
        image = decode_rgb(content)
    except ImageError:
        return None
    stream = io.BytesIO()  # without whatever else the file holds
    image.save(stream, format="JPEG", quality=82)
    return _Shown(panel, stream.getvalue(), image.size)


def _read(path: Path) -> bytes:
    try:
        return read_bounded(path, _LARGEST_BYTES)
    except OSError:
        return b""


def _draw_panel(run: RunRecord, number: int, shown: _Shown) -> Html:
    step = shown.panel.step
    image = tag(
        "img",
        src=f"data:image/jpeg;base64,{base64.b64encode(shown.content).decode()}",
        alt=f"Validation image {number + 1} of {run.name} after step {step}: image, predicted "
        "disparity, ground truth, error",
        width=shown.size[0],
        height=shown.size[1],
    )
    return tag("figure", image, tag("figcaption", f"step {step:,}"))
