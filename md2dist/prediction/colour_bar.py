"""Colour bar: the depths that the colours of a disparity picture mean."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from md2dist.prediction.colour_maps import colour_disparity
from md2dist.prediction.pictures import Picture

_INK = "#18181b"


def draw_colour_bar(
    width: int, bounds: tuple[float, float], factor: float, *, is_metric: bool
) -> Picture:
    """Draws the colours from near (left) to far (right), with depths at round numbers.

    Args:
        width: of the bar, in pixels.
        bounds: scaled disparities in 1/m of the darkest and of the brightest colour; whatever is
            nearer has the brightest one, too.
        factor: depth is `factor` / scaled disparity.
        is_metric: whether that is in metres.

    Returns:
        (h, width, 3), 26 to 120 pixels high; labels that do not fit are left out.
    """
    text_size = min(max(width // 75, 10), 46)
    font = ImageFont.load_default(text_size)
    gap = text_size // 2
    bar = Image.new("RGB", (width, 2 * text_size + 3 * gap), "white")
    pen = ImageDraw.Draw(bar)
    caption = "depth (m)" if is_metric else "relative depth"
    left = math.ceil(pen.textlength(caption, font)) + 2 * gap
    if 3 * left < width:
        pen.text((gap, gap + text_size / 2), caption, _INK, font, anchor="lm")
    else:
        left = gap
    length = max(1, width - left - 2 * text_size)
    darkest, brightest = bounds
    levels = np.linspace(brightest, darkest, length)[None].repeat(text_size, 0)
    bar.paste(Image.fromarray(colour_disparity(levels, bounds)), (left, gap))
    taken: list[tuple[float, float]] = []  # columns of the labels so far
    bottom = gap + text_size
    for depth, room in _round_depths(factor / brightest, factor / darkest):
        share = (brightest - factor / depth) / max(brightest - darkest, np.finfo(float).tiny)
        column = left + share * (length - 1)
        text = f"{depth:.3g}"
        half = pen.textlength(text, font) / 2
        start, end = column - half, column + half
        space = room * text_size
        is_free = all(end + space < other[0] or other[1] + space < start for other in taken)
        if not is_free or start < 0 or end > width:
            continue
        taken.append((start, end))
        pen.line((column, bottom, column, bottom + gap // 2), _INK, max(1, text_size // 12))
        pen.text((column, bottom + gap), text, _INK, font, anchor="mt")
    return np.asarray(bar)


def _round_depths(nearest: float, farthest: float) -> Iterator[tuple[float, float]]:
    """Yields depths in a range, the roundest first, and the space beside each in heights of text.

    They have one significant digit or two; the ends of the range come last, for a range without.
    """
    exponents = range(math.floor(math.log10(nearest)), math.floor(math.log10(farthest)) + 1)
    for digits, room in (
        ((10, 20, 50), 0.5),
        ((30, 40, 60, 70, 80, 90), 0.5),
        ((15, 25), 2),
        (range(10, 100), 4),
    ):
        for exponent, digit in itertools.product(exponents, digits):
            depth = float(f"{digit}e{exponent - 1}")
            if nearest <= depth <= farthest:
                yield depth, room
    yield nearest, 8
    yield farthest, 8
