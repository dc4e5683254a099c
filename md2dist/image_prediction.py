"""Depth of single images of any size, as a part of the model."""

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
from md2dist.errors import PredictionError
from md2dist.networks.precision import name_dtype
from md2dist.records import Prediction


class ImagePrediction(nn.Module):
    """Base of a model that predicts scaled disparity at its own size."""

    height: int
    width: int
    dtype: torch.dtype
    use_stereo: bool
    loss_config: LossConfig

    def predict_scaled_disparity(self, images: torch.Tensor) -> torch.Tensor:
        """Predicts inverse depth (B, 1, H, W) in 1/m of images (B, 3, H, W); see the model."""
        raise NotImplementedError

    def predict_image(self, image: Image.Image) -> NDArray[np.float32]:
        """Predicts inverse depth of one image of any size; the model must be in eval mode.

        Args:
            image: RGB, (H, W); resized to the model's size with Lanczos, as in training.

        Returns:
            Scaled disparity in 1/m, (H, W), resized back bilinearly.

        Raises:
            PredictionError: if it is not finite: the weights are damaged, or float16 overflows.
        """
        resized = image.resize((self.width, self.height), Image.Resampling.LANCZOS)
        pixels = torch.from_numpy(np.array(resized)).to(next(self.parameters()).device)
        disparity = self.predict_scaled_disparity(pixels.permute(2, 0, 1)[None].float() / 255)
        size = (image.height, image.width)
        if not disparity.isfinite().all():
            name = name_dtype(self.dtype)
            raise PredictionError(
                f"the model predicts values that are not finite in {name}; "
                + ("use fp32" if name == "fp16" else "use other weights")
            )
        full = interpolate(disparity, size=size, mode="bilinear", align_corners=False)
        return full[0, 0].cpu().numpy()

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
