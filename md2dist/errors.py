"""Errors that a user can cause and mend, and the shape check that raises most of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch  # encoding images has no need of it, and it takes seconds to import


class Md2distError(ValueError):
    """Base of all errors of use: the message says what is wrong, what was expected, what to do."""


class ConfigError(Md2distError):
    """A setting is unknown, of the wrong type, or contradicts another one."""


class ShapeError(Md2distError):
    """A tensor does not have the announced shape."""


class KittiError(Md2distError):
    """A file of the KITTI tree is missing, broken, or not what the split asks for."""


class SourceError(Md2distError):
    """The system does not give a file of KITTI's; no `KittiError`, which packing may leave out."""


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


def tell_error(message: str) -> None:
    """Tells the user of an error, in one line on the terminal."""
    sys.stderr.write(f"error: {message}\n")
    sys.stderr.flush()


def run_command(main: Callable[[], None]) -> None:
    """Runs a command's ``main``: an error of use or of a file becomes one line and exit code 2."""
    try:
        try:
            main()
        except BaseException:
            with suppress(OSError):  # the first error is the one to be told
                _flush_output()
            raise
        _flush_output()
    except Md2distError as error:
        tell_error(str(error))
        sys.exit(2)
    except BrokenPipeError:  # nobody reads on, as in `... | head`
        sys.exit(141)
    except OSError as error:  # of a file for which the command has no words of its own
        tell_error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


def _flush_output() -> None:
    """Lets an OSError pass if what was printed cannot be written, and gives it up."""
    if sys.stdout is None:  # closed by whoever started the command
        return
    try:
        sys.stdout.flush()
    except OSError:
        # It would be tried again at the end of the process, and fail with a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
