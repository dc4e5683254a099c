"""Errors that a user can cause and mend, and the shape check that raises most of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch  # encoding images has no need of it, and it takes seconds to import


class Md2distError(ValueError):
    """Base of all errors of use: the message says what is wrong, what was expected, what to do."""


class ConfigError(Md2distError):
    """A setting is unknown, of the wrong type, or contradicts another one."""


class ShapeError(Md2distError):
    """A tensor does not have the announced shape."""


class KittiDataError(Md2distError):
    """A file of the KITTI tree is missing, broken, or not what the split asks for."""


class KittiAccessError(Md2distError):
    """The system denies access to a file of KITTI; never left out, unlike a `KittiDataError`."""


class SplitError(Md2distError):
    """A split file is missing or has a line that does not parse."""


class DownloadError(Md2distError):
    """A file cannot be had from its server, or is not the one that was expected."""


class ShardError(Md2distError):
    """Shards are missing, damaged, or packed with another recipe than the one asked for."""


class WeightsError(Md2distError):
    """A weight file is missing, belongs to another network, or lacks entries."""


class CheckpointError(Md2distError):
    """A checkpoint is missing or damaged."""


class TrainingError(Md2distError):
    """A training that cannot go on."""


class EvaluationError(Md2distError):
    """A prediction cannot be compared with its ground truth."""


class ImageError(Md2distError):
    """An image is missing or cannot be read, or its results cannot be written."""


def check_shape(tensor: torch.Tensor, expected: str, name: str, **sizes: int) -> dict[str, int]:
    """Checks a tensor's shape against a pattern and returns the sizes that its letters stand for.

    Args:
        tensor: any tensor.
        expected: sizes separated by blanks; a number must match, a letter is bound at its first
            use, for example ``"B 3 H W"``.
        name: what the message calls the tensor.
        **sizes: letters that are bound already, typically from an earlier call.

    Returns:
        All letters with their sizes, ready to be passed to the next check.

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
