"""Prediction of images of any size, by a model that predicts tensors of its own size."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn.functional import interpolate

from md2dist.config import LossConfig
from md2dist.conventions import STEREO_FACTOR
from md2dist.data.image_reader import to_rgb
from md2dist.data.images import resize_frame
from md2dist.networks.precision import check_finite
from md2dist.records import Prediction


class ImagePredictor(nn.Module, ABC):
    """Predictions of images, for a model in eval mode that predicts tensors."""

    height: int
    width: int
    dtype: torch.dtype
    use_stereo: bool
    loss_config: LossConfig

    @abstractmethod
    def predict_scaled_disparity(self, images: torch.Tensor) -> torch.Tensor:
        """Maps images (B, 3, H, W) in [0, 1] to scaled disparity (B, 1, H, W) in 1/m."""

    def predict_frames(self, frames: torch.Tensor) -> torch.Tensor:
        """Predicts inverse depth of frames (B, H, W, 3) uint8 on any device.

        Result, errors and mode are those of `predict_scaled_disparity`.
        """
        images = frames.to(next(self.parameters()).device).permute(0, 3, 1, 2).float() / 255
        return self.predict_scaled_disparity(images)

    def predict_maps(
        self, frames: torch.Tensor, sizes: Sequence[tuple[int, int]]
    ) -> list[NDArray[np.float32]]:
        """Predicts inverse depth of resized images; the model must be in eval mode.

        Args:
            frames: (B, H, W, 3) uint8 on any device, at the model's size.
            sizes: height and width of each result.

        Returns:
            Scaled disparities in 1/m, each (height, width), resized bilinearly; not checked.
        """
        disparities = self.predict_frames(frames).split(1)
        return [
            interpolate(disparity, size=size, mode="bilinear", align_corners=False)[0, 0]
            .cpu()
            .numpy()
            for disparity, size in zip(disparities, sizes, strict=True)
        ]

    def predict_image(self, image: Image.Image) -> NDArray[np.float32]:
        """Predicts inverse depth of one image of any size; the model must be in eval mode.

        Args:
            image: RGB, (H, W); resized to the model's size with Lanczos, as in training.

        Returns:
            Scaled disparity in 1/m, (H, W), resized back bilinearly.

        Raises:
            PredictionError: if it is not finite: the weights are damaged, or float16 overflows.
        """
        frame = torch.from_numpy(np.array(resize_frame(image, self.height, self.width)))
        [disparity] = self.predict_maps(frame[None], [(image.height, image.width)])
        check_finite(disparity, self.dtype)
        return disparity

    def predict(self, image: str | Path | Image.Image | NDArray[np.uint8]) -> Prediction:
        """Predicts the depth of one image; the model must be in eval mode.

        Args:
            image: a PNG or JPEG file, a PIL image, or an array (H, W, 3) uint8 in RGB, of any size.
                Files and PIL images are turned upright as their EXIF states.

        Returns:
            Depth and disparity (H, W) of the upright image. The depth of a model trained with
            stereo is in metres, for cameras like KITTI's.

        Raises:
            ImageError: if a file or PIL image cannot be read, or has more than 8 bits per channel.
            PredictionError: as `predict_image`.
            ShapeError: if an array is not (H, W, 3) uint8.
        """
        scaled = self.predict_image(to_rgb(image))
        nearest, farthest = 1 / self.loss_config.min_depth, 1 / self.loss_config.max_depth
        return Prediction(
            depth=np.float32(STEREO_FACTOR if self.use_stereo else 1) / scaled,
            disparity=(scaled - np.float32(farthest)) / np.float32(nearest - farthest),
            is_metric=self.use_stereo,
        )
