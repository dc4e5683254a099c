"""Clips: the frames of a video, or images that make one, in a common form."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from md2dist.data.image_reader import read_image
from md2dist.data.image_size import count_pixels
from md2dist.data.video import (
    VideoInfo,
    read_frames,
    read_info,
    sample_key_frames,
)
from md2dist.model import MonodepthModel
from md2dist.networks.precision import check_finite
from md2dist.prediction.batches import prepare_image
from md2dist.prediction.colour_maps import disparity_bounds

_MOST_SAMPLES = 32  # frames from which the colour scale follows
_SAMPLES_AT_ONCE = 8


class Shot(NamedTuple):
    """A frame of a clip."""

    load: Callable[[], Image.Image]  # upright, RGB
    num_pixels: int
    time: int | None  # in units of the clip's time base
    duration: int | None


@dataclass(frozen=True)
class Clip:
    """Frames with times.

    Args:
        shots: begins the frames anew.
        samples: returns up to 32 images that are spread over the clip.
        info: rate, time base and number of frames.
    """

    shots: Callable[[], Iterator[Shot]]
    samples: Callable[[], Iterable[Image.Image]]
    info: VideoInfo


def video_clip(path: Path) -> Clip:
    """Returns the frames of a video; its key frames are the samples.

    Raises:
        VideoError: if it cannot be read, or has no video stream.
    """

    def shots() -> Iterator[Shot]:
        for frame in read_frames(path):
            num_pixels = frame.raw.width * frame.raw.height
            yield Shot(frame.to_image, num_pixels, frame.time, frame.duration)

    return Clip(shots, lambda: sample_key_frames(path, _MOST_SAMPLES), read_info(path))


def image_clip(images: Sequence[Path], rate: Fraction) -> Clip:
    """Returns images as frames of a video with `rate` frames per second."""

    def shots() -> Iterator[Shot]:
        for path in images:
            yield Shot(partial(read_image, path), count_pixels(path), None, None)

    def samples() -> Iterator[Image.Image]:
        step = -(-len(images) // _MOST_SAMPLES)
        return map(read_image, images[::step])

    return Clip(shots, samples, VideoInfo(rate, 1 / rate, len(images)))


def find_bounds(
    model: MonodepthModel, clip: Clip, *, crop_to_aspect: bool = False
) -> tuple[float, float]:
    """Returns the colour scale of a clip: `disparity_bounds` of all its samples together.

    Raises:
        VideoError: if the clip cannot be read.
        ImageError: if an image cannot be read.
        PredictionError: if a disparity is not finite.
    """
    frames = [
        prepare_image(model, image, crop_to_aspect=crop_to_aspect).frame for image in clip.samples()
    ]
    size = (model.height, model.width)
    disparities = []
    for start in range(0, len(frames), _SAMPLES_AT_ONCE):
        part = torch.from_numpy(np.stack(frames[start : start + _SAMPLES_AT_ONCE]))
        disparities += model.predict_maps(part, [size] * len(part))
    pooled = np.stack(disparities) if disparities else np.ones((1, *size), np.float32)
    check_finite(pooled, model.dtype)
    return disparity_bounds(pooled)
