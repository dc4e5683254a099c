"""Errors that a user can cause and fix, and the shape check of tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch  # takes seconds to import, and packing does not need it


_LONGEST_MESSAGE = 2000  # characters
_LONGEST_PART = _LONGEST_MESSAGE // 2 - 3  # of a longer one, at its start and its end


class Md2distError(ValueError):
    """Base of all user errors; a message names the fault, what was expected, and the remedy.

    It is one printable line, whatever the names and values in it.
    """

    def __init__(self, message: object):
        text = escape(str(message))
        if len(text) > _LONGEST_MESSAGE:  # its remedy is at the end
            text = f"{text[:_LONGEST_PART]} ... {text[-_LONGEST_PART:]}"
        super().__init__(text)


def escape(text: str) -> str:
    r"""Escapes control characters and invalid characters, as Python does.

    >>> escape("a file\n.png")
    'a file\\n.png'
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


class ConfigError(Md2distError):
    """A setting is unknown, of the wrong type, or contradicts another one."""


class ShapeError(Md2distError):
    """A tensor does not have the expected shape."""


class KittiDataError(Md2distError):
    """A KITTI file is missing, damaged, or not what the split requires."""


class KittiAccessError(Md2distError):
    """Access to a KITTI file fails (permission, disk); never skipped, unlike `KittiDataError`."""


class SplitError(Md2distError):
    """A split is unknown, or its file is missing or malformed."""


class DownloadError(Md2distError):
    """A file cannot be downloaded, or is not the expected one."""


class ShardError(Md2distError):
    """Shards are missing, damaged, or packed with a recipe other than the expected one."""


class WeightsError(Md2distError):
    """A weight file is missing, belongs to another network, or lacks entries."""


class CheckpointError(Md2distError):
    """A checkpoint is missing or damaged."""


class TrainingError(Md2distError):
    """A training run cannot continue."""


class RunError(Md2distError):
    """A folder is not that of a run, or its files are damaged."""


class MachineLimitError(Md2distError):
    """A limit of the machine or container, such as its shared memory, is too low."""


class PredictionError(Md2distError):
    """A model predicts depths that are not finite."""


class EvaluationError(Md2distError):
    """A prediction cannot be compared with its ground truth."""


class ImageError(Md2distError):
    """An image is missing or cannot be read, or its results cannot be written."""


class DamagedImageError(ImageError):
    """An image file is damaged, or is not in a supported format."""


class VideoError(ImageError):
    """A video is missing or cannot be read, or cannot be written."""


class DamagedVideoError(DamagedImageError, VideoError):
    """A video is damaged, or is not in a supported format."""


def check_shape(tensor: torch.Tensor, expected: str, name: str, **sizes: int) -> dict[str, int]:
    """Checks a tensor's shape, e.g. (B, 3, H, W), and returns the sizes bound to its letters.

    Args:
        tensor: any tensor.
        expected: sizes separated by spaces, e.g. ``"B 3 H W"``; a number must match, a letter is
            bound at its first use.
        name: name of the tensor, for the message.
        **sizes: letters already bound, typically by an earlier call.

    Returns:
        The size of each letter, to be passed to the next check.

    Raises:
        ShapeError: if the number of dimensions or a size differs.
    """
    letters = expected.split()
    known = dict(sizes)
    fits = len(letters) == tensor.dim()
    for letter, size in zip(letters, tensor.shape, strict=False):
        wanted = int(letter) if letter.isdigit() else known.setdefault(letter, size)
        fits = fits and wanted == size
    if not fits:
        context = ", ".join(f"{letter}={size}" for letter, size in sizes.items())
        raise ShapeError(
            f"{name} has shape {tuple(tensor.shape)}; expected ({', '.join(letters)})"
            + (f" with {context}" if context else "")
        )
    return known
