"""Prediction of image files with a trained model."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from md2dist.data.image_reader import read_image
from md2dist.data.image_size import count_pixels
from md2dist.errors import ImageError
from md2dist.model import MonodepthModel
from md2dist.prediction.batches import BATCH_SIZE, Loaded, group_by_pixels, predict_in_batches
from md2dist.prediction.result_files import PredictionOptions, ResultWriter


def frames_predictor(model: MonodepthModel) -> Callable[[torch.Tensor], torch.Tensor]:
    """Wraps a model for `evaluate_depth`.

    Args:
        model: in eval mode, on any device.

    Returns:
        A function from frames (B, H, W, 3) uint8, of the model's size and on any device, to scaled
        disparity (B, 1, H, W) float32 in 1/m on the model's device.
    """
    return model.predict_frames


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
    options: PredictionOptions = PredictionOptions(),
    batch_size: int = BATCH_SIZE,
) -> Generator[Path]:
    """Predicts images and writes three files for each, or more as `options` say.

    ``NAME_depth.png`` (16 bit, 1/256 m) or ``NAME_depth.npy`` (float32, m) and
    ``NAME_disparity.png`` (coloured), at the image's size, and ``NAME_picture.png`` (beside the
    image, above a colour bar).

    Args:
        model: in eval mode.
        images: files with distinct names.
        output: folder of the results; created if missing.
        factor: factor of the depth; `STEREO_FACTOR` converts the depth of a model trained with
            stereo to metres. Monocular depth has no scale.
        depth_format: format of the depth file.
        on_unreadable: called with the error of an image that cannot be read, which is skipped;
            None: the error is raised.
        options: further results.
        batch_size: most images per forward pass; files are read and written beside it.

    Yields:
        The depth file of each image, in order, once all of its files are written.

    Raises:
        ImageError: if an image cannot be read or a result cannot be written.
        PredictionError: if a depth is not positive and finite; nothing is written for that image.
        ConfigError: if `batch_size` is < 1.
    """
    writer = ResultWriter(output, factor, depth_format, options)

    def finish(path: Path, loaded: Loaded, disparity: NDArray[np.float32]) -> Path:
        """Writes the results of scaled disparity (H, W)."""
        return writer.write(path.stem, loaded, disparity)

    batches = group_by_pixels(images, count_pixels, batch_size)
    results = predict_in_batches(
        model, batches, read_image, finish, crop_to_aspect=options.crop_to_aspect
    )
    with closing(results):
        for result in results:
            if isinstance(result, Path):
                yield result
            elif on_unreadable is None:
                raise result
            else:
                on_unreadable(result)


def _to_images(frames: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Converts frames (B, H, W, 3) uint8 to (B, 3, H, W) float32 in [0, 1] on a device."""
    return frames.to(device).permute(0, 3, 1, 2).float() / 255
