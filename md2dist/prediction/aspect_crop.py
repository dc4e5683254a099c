"""Crop of an image's centre to the aspect ratio of a model."""

from typing import NamedTuple


class Box(NamedTuple):
    """Part of an image in its pixels; `right` and `bottom` are outside."""

    left: int
    top: int
    right: int
    bottom: int


def aspect_box(size: tuple[int, int], model_size: tuple[int, int]) -> Box:
    """Returns the largest box at an image's centre with the aspect ratio of a model.

    Args:
        size: width and height of the image.
        model_size: width and height of the model's input.
    """
    width, height = size
    model_width, model_height = model_size
    if width * model_height > height * model_width:
        width = max(1, round(height * model_width / model_height))
    else:
        height = max(1, round(width * model_height / model_width))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return Box(left, top, left + width, top + height)
