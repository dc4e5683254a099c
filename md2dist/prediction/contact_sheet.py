"""Contact sheet: views and ground truth of some samples in one picture."""

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from md2dist.data.shards.dataset import Sample, ShardDataset
from md2dist.errors import ConfigError
from md2dist.prediction.pictures import Picture, depth_overlay

_WIDTH, _LARGEST_TILE = 2080, 640  # pixels
_GAP, _MARGIN = 8, 28
_TITLE, _CAPTION, _HEADING = 38, 24, 22  # font sizes
_INK, _GREY = (24, 24, 27), (113, 113, 122)
_CAMERAS = {"l": "left", "r": "right"}


def draw_random_samples(dataset: ShardDataset, count: int, seed: int = 0) -> Picture:
    """Draws a contact sheet of random samples, in the order of the shards.

    Args:
        dataset: a folder of shards.
        count: number of samples, or fewer if the data set is smaller.
        seed: seed of the choice.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ConfigError: if `count` or `seed` is out of range.
        ShardError: if a sample is damaged.
    """
    if count < 1 or seed < 0:
        raise ConfigError(f"--samples {count} --seed {seed}: expected >= 1 and >= 0")
    chosen = np.random.default_rng(seed).permutation(len(dataset))[:count]
    samples = [dataset[i] for i in sorted(chosen.tolist())]
    recipe = dataset.manifest.recipe
    return contact_sheet(samples, f"{recipe.split}   {len(dataset):,} samples")


def contact_sheet(samples: Sequence[Sample], title: str) -> Picture:
    """Draws one row per sample: views in temporal order, other camera, ground truth.

    Args:
        samples: one or more, with the same views.
        title: title of the sheet.

    Returns:
        (H, W, 3) uint8, on white; all tiles have the shape of the first target.
    """
    rows = [dict(_tiles(sample)) for sample in samples]
    columns = list(dict.fromkeys(heading for row in rows for heading in row))
    height, width = samples[0].frames["0"].shape[:2]
    tile_width = min(_LARGEST_TILE, _WIDTH // len(columns))
    tile_height = round(height * tile_width / width)
    top = _MARGIN + _TITLE + _HEADING + 5 * _GAP
    pitch = tile_height + _CAPTION + 5 * _GAP
    size = 2 * _MARGIN + len(columns) * (tile_width + _GAP) - _GAP, top + pitch * len(rows) + _GAP
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, _MARGIN), title, _INK, ImageFont.load_default(_TITLE))
    for column, heading in enumerate(columns):
        x = _MARGIN + column * (tile_width + _GAP)
        position = x, top - _HEADING - 2 * _GAP
        pen.text(position, heading, _GREY, ImageFont.load_default(_HEADING))
        for y, row in zip(range(top, size[1], pitch), rows, strict=False):
            if heading in row:
                tile = Image.fromarray(row[heading])
                tile = tile.resize((tile_width, tile_height), Image.Resampling.LANCZOS)
                sheet.paste(tile, (x, y + _CAPTION + 2 * _GAP))
    for y, sample in zip(range(top, size[1], pitch), samples, strict=False):
        pen.text((_MARGIN, y), _caption(sample), _INK, ImageFont.load_default(_CAPTION))
    return np.asarray(sheet)


def _tiles(sample: Sample) -> Iterator[tuple[str, Picture]]:
    """Yields the headings of the columns with a sample's pictures (H, W, 3)."""
    for view in sorted(sample.frames.keys() - {"s"}, key=int):
        yield "target" if view == "0" else f"frame {view}", sample.frames[view]
    if "s" in sample.frames:
        yield "other camera", sample.frames["s"]
    if sample.ground_truth is not None:
        overlay = depth_overlay(sample.frames["0"], sample.ground_truth)
        yield "ground truth, near is bright", overlay


def _caption(sample: Sample) -> str:
    info = sample.info
    return f"{info['drive']}   frame {info['frame']}   {_CAMERAS[info['side']]} camera"
