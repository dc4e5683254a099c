"""Prediction of image files with a trained model."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from md2dist.data.image_reader import read_image
from md2dist.errors import ImageError, PredictionError
from md2dist.model import MonodepthModel
from md2dist.prediction.colour_maps import colour_disparity
from md2dist.prediction.image_files import (
    write_depth_npy,
    write_depth_png,
    write_picture,
)


def frames_predictor(model: MonodepthModel) -> Callable[[torch.Tensor], torch.Tensor]:
    """Wraps a model for `evaluate_depth`.

    Args:
        model: in eval mode, on any device.

    Returns:
        A function from frames (B, H, W, 3) uint8, of the model's size and on any device, to scaled
        disparity (B, 1, H, W) float32 in 1/m on the model's device.
    """
    device = next(model.parameters()).device

    def predict(frames: torch.Tensor) -> torch.Tensor:
        return model.predict_scaled_disparity(_to_images(frames, device))

    return predict


def motion_predictor(
    model: MonodepthModel,
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Wraps a model for `predict_motions`.

    Args:
        model: in eval mode, on any device.

    Returns:
        A function from frames (B, H, W, 3) uint8, of the model's size and on any device, and the
        next ones to point transforms (B, 4, 4) float32 on the model's device.
    """
    device = next(model.parameters()).device

    def predict(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return model.predict_transform(_to_images(first, device), _to_images(second, device))

    return predict


def predict_files(
    model: MonodepthModel,
    images: Sequence[Path],
    output: Path,
    *,
    factor: float = 1.0,
    depth_format: Literal["png", "npy"] = "png",
    on_unreadable: Callable[[ImageError], object] | None = None,
) -> Iterator[Path]:
    """Predicts images and writes three files for each.

    ``NAME_depth.png`` (16 bit, 1/256 m) or ``NAME_depth.npy`` (float32, m), ``NAME_disparity.png``
    (coloured) and ``NAME_picture.png`` (beside the image), all at the image's size.

    Args:
        model: in eval mode.
        images: files with distinct names.
        output: folder of the results; created if missing.
        factor: factor of the depth; `STEREO_FACTOR` converts the depth of a model trained with
            stereo to metres. Monocular depth has no scale.
        depth_format: format of the depth file.
        on_unreadable: called with the error of an image that cannot be read, which is skipped;
            None: the error is raised.

    Yields:
        The depth file of each image, once all three are written.

    Raises:
        ImageError: if an image cannot be read or a result cannot be written.
        PredictionError: if a depth is not positive and finite; nothing is written for that image.
    """
    write_depth = write_depth_png if depth_format == "png" else write_depth_npy
    for path in images:
        try:
            image = read_image(path)
        except ImageError as error:
            if on_unreadable is None:
                raise
            on_unreadable(error)
            continue
        disparity = model.predict_image(image)
        depth_path = output / f"{path.stem}_depth.{depth_format}"
        depth = scaled_depth(disparity, factor)
        coloured = colour_disparity(disparity)
        write_picture(output / f"{path.stem}_disparity.png", coloured)
        write_picture(output / f"{path.stem}_picture.png", np.hstack([np.array(image), coloured]))
        write_depth(depth_path, depth)  # last: the pictures say that it is a result
        yield depth_path


def _to_images(frames: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Converts frames (B, H, W, 3) uint8 to (B, 3, H, W) float32 in [0, 1] on a device."""
    return frames.to(device).permute(0, 3, 1, 2).float() / 255


def scaled_depth(disparity: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Converts scaled disparity (H, W) in 1/m to depth.

    Raises:
        PredictionError: if a depth is not positive and finite.
    """
    with np.errstate(over="ignore"):
        depth = factor / disparity
    if not (np.isfinite(depth) & (depth > 0)).all():
        raise PredictionError(
            f"--scale {factor:g} gives depths that float32 cannot hold; use a factor near 1"
        )
    return depth
