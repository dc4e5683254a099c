"""Prediction of images of any size in batches; threads load and finish them beside the network."""

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from md2dist.data.images import resize_frame
from md2dist.errors import ConfigError, ImageError
from md2dist.model import MonodepthModel
from md2dist.networks.precision import check_finite
from md2dist.pipeline import run_pipeline
from md2dist.prediction.aspect_crop import Box, aspect_box

Item = TypeVar("Item")
Result = TypeVar("Result")

BATCH_SIZE = 8
_MOST_PIXELS = 16_000_000  # of a batch of several images; three batches are in memory


class Loaded(NamedTuple):
    """An image to be predicted."""

    image: Image.Image  # upright RGB, cropped
    full_size: tuple[int, int]  # width and height before the crop
    box: Box  # the crop
    frame: NDArray[np.uint8]  # (H, W, 3), at the model's size


def predict_in_batches(
    model: MonodepthModel,
    batches: Iterable[Iterable[Item]],
    load: Callable[[Item], Image.Image],
    finish: Callable[[Item, Loaded, NDArray[np.float32]], Result],
    *,
    crop_to_aspect: bool = False,
    widest: int | None = None,
) -> Generator[Result | ImageError]:
    """Predicts images; three batches are in memory: one is loaded, one predicted, one finished.

    Args:
        model: in eval mode.
        batches: items for `load`, see `run_pipeline`.
        load: returns the image of an item, upright in RGB; called in threads.
        finish: makes the result of an item, its image, and its scaled disparity (H, W) in 1/m, of
            the image's size; called in threads.
        crop_to_aspect: predicts the image's centre, of the model's aspect ratio, alone.
        widest: most pixels of a row of the results; a wider image is resized first.

    Yields:
        The result of each item in order, or the `ImageError` of `load`.

    Raises:
        PredictionError: if a disparity is not finite; raised when its item is due.
        Exception: any other of `load` and `finish`, likewise.
    """

    def prepare(item: Item) -> tuple[Item, Loaded | ImageError]:
        try:
            image = load(item)
        except ImageError as error:
            return item, error
        return item, prepare_image(model, image, crop_to_aspect=crop_to_aspect, widest=widest)

    def compute(
        prepared: list[tuple[Item, Loaded | ImageError]],
    ) -> list[NDArray[np.float32] | None]:
        """Returns the disparity (H, W) of each image, None for errors."""
        images = [loaded for _, loaded in prepared if isinstance(loaded, Loaded)]
        if not images:
            return [None] * len(prepared)
        frames = torch.from_numpy(np.stack([image.frame for image in images]))
        maps = iter(
            model.predict_maps(
                frames, [(image.image.height, image.image.width) for image in images]
            )
        )
        return [next(maps) if isinstance(loaded, Loaded) else None for _, loaded in prepared]

    def finish_one(
        prepared: tuple[Item, Loaded | ImageError], disparity: NDArray[np.float32] | None
    ) -> Result | ImageError:
        """Returns the result of a disparity (H, W), or the error that there is instead."""
        item, loaded = prepared
        if isinstance(loaded, ImageError) or disparity is None:
            assert isinstance(loaded, ImageError)
            return loaded
        check_finite(disparity, model.dtype)
        return finish(item, loaded, disparity)

    yield from run_pipeline(batches, prepare, compute, finish_one)


def prepare_image(
    model: MonodepthModel,
    image: Image.Image,
    *,
    crop_to_aspect: bool = False,
    widest: int | None = None,
) -> Loaded:
    """Crops and resizes an image; the arguments are those of `predict_in_batches`."""
    size, box = image.size, Box(0, 0, *image.size)
    if crop_to_aspect:
        box = aspect_box(size, (model.width, model.height))
        image = image.crop(box)
    if widest is not None and image.width > widest:
        height = max(1, round(image.height * widest / image.width))
        image = resize_frame(image, height, widest)
    frame = np.asarray(resize_frame(image, model.height, model.width))
    return Loaded(image, size, box, frame)


def group_by_pixels(
    items: Iterable[Item], count_pixels: Callable[[Item], int], batch_size: int
) -> Iterator[list[Item]]:
    """Groups images, so that a batch has at most `batch_size`, and 16 million pixels or one image.

    Raises:
        ConfigError: if `batch_size` is < 1.
        Exception: of `items`, after the images before it.
    """
    if batch_size < 1:
        raise ConfigError(f"--batch-size {batch_size}: expected >= 1")
    batch: list[Item] = []
    num_pixels = 0
    try:
        for item in items:
            added = count_pixels(item)
            if batch and (len(batch) == batch_size or num_pixels + added > _MOST_PIXELS):
                yield batch
                batch, num_pixels = [], 0
            batch.append(item)
            num_pixels += added
    except Exception:
        if batch:  # what came before the error has its results
            yield batch
        raise
    if batch:
        yield batch
