"""Panels of validations in a run's folder: small JPEG files, bounded in number.

Each shows one of a few fixed validation images after one validation. If there are too many, the one
whose neighbours in time are nearest is removed, so that the rest stays evenly spread.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from md2dist.storage.atomic import atomic_open

MOST_PANELS = 40  # of an image
_NAME = re.compile(r"val-panel-([0-9]{1,2})-([0-9]{8,12})\.jpg")
_QUALITY = 85


class PanelFile(NamedTuple):
    """A panel in the folder `logs` of a run."""

    number: int  # of the image
    step: int
    path: Path


def list_panels(run_dir: Path) -> list[PanelFile]:
    """Lists the panels of a run, by image and step."""
    folder = run_dir / "logs"
    entries = folder.iterdir() if folder.is_dir() else ()
    matches = [(_NAME.fullmatch(path.name), path) for path in entries]
    return sorted(PanelFile(int(m[1]), int(m[2]), path) for m, path in matches if m)


def write_panel(run_dir: Path, number: int, step: int, picture: np.ndarray) -> None:
    """Writes a panel, and removes one if there are more than `MOST_PANELS` of its image.

    Args:
        run_dir: the run's folder.
        number: of the image.
        step: after which it was validated.
        picture: (H, W, 3) uint8.

    Raises:
        OSError: if it cannot be written.
    """
    path = run_dir / "logs" / f"val-panel-{number}-{step:08d}.jpg"
    with atomic_open(path) as stream:
        Image.fromarray(picture).save(stream, format="JPEG", quality=_QUALITY)
    panels = [panel for panel in list_panels(run_dir) if panel.number == number]
    for panel in choose_surplus(panels):
        panel.path.unlink(missing_ok=True)


def choose_surplus(panels: list[PanelFile], most: int = MOST_PANELS) -> list[PanelFile]:
    """Chooses the panels of one image, in order of their steps, that are to be removed."""
    kept, surplus = list(panels), []
    while len(kept) > most:
        gaps = [kept[i + 1].step - kept[i - 1].step for i in range(1, len(kept) - 1)]
        surplus.append(kept.pop(1 + gaps.index(min(gaps))))
    return surplus
