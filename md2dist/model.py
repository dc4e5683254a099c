"""Model: networks, geometry and loss in one module, since DeepSpeed wraps a single one.

The networks run in the configured precision, by autocast; their output layers, the geometry and the
loss run in float32, or in float64 after ``.double()``.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn.functional import interpolate
from torch.nn.modules.batchnorm import _BatchNorm

from md2dist.config import Config, LossConfig
from md2dist.conventions import STEREO_FACTOR
from md2dist.data.image_reader import convert_to_rgb, read_image
from md2dist.errors import ConfigError, PredictionError, ShapeError, check_shape
from md2dist.geometry.disparity import scale_disparity
from md2dist.geometry.pose import build_transform, invert_transform
from md2dist.networks.depth_decoder import DepthDecoder
from md2dist.networks.memory_format import choose_memory_format
from md2dist.networks.pose_decoder import PoseDecoder
from md2dist.networks.precision import choose_dtype, name_dtype, upcast_half, without_autocast
from md2dist.networks.resnet import ResNetEncoder
from md2dist.objective import Predictions, compute_loss
from md2dist.records import Batch, Prediction, StepOutput

BATCH_SHAPES = {
    "target": "B 3 H W",
    "target_aug": "B 3 H W",
    "sources": "B S 3 H W",
    "sources_aug": "B S 3 H W",
    "K": "B 3 3",
    "T_stereo": "B 4 4",
    "sample_id": "B",
}


class MonodepthModel(nn.Module):
    """Monodepth2: losses in training, depth and motion in evaluation.

    Source: Godard et al., "Digging Into Self-Supervised Monocular Depth Estimation", ICCV 2019.

    Args:
        num_layers: depth of both ResNet encoders.
        height: rows of the images, divisible by 32.
        width: columns of the images, divisible by 32.
        frame_offsets: temporal sources, ascending, without 0; if empty, there is no pose network.
        use_stereo: whether the other camera is a source.
        loss: settings of the loss.
        dtype: type of the networks' computations, except for their output layers.
        freeze_batchnorm: whether batch norm stays in eval mode while training.
    """

    def __init__(
        self,
        num_layers: int,
        height: int,
        width: int,
        frame_offsets: Sequence[int],
        use_stereo: bool,
        loss: LossConfig,
        dtype: torch.dtype = torch.float32,
        freeze_batchnorm: bool = False,
    ):
        super().__init__()
        self.num_layers = num_layers
        self.height, self.width = height, width
        self.frame_offsets = tuple(frame_offsets)
        self.use_stereo = use_stereo
        self.num_sources = len(self.frame_offsets) + use_stereo
        self.loss_config = loss
        self.dtype = dtype
        self.freeze_batchnorm = freeze_batchnorm

        self.encoder = ResNetEncoder(num_layers)
        self.depth = DepthDecoder(self.encoder.channels)
        if self.frame_offsets:
            self.pose_encoder = ResNetEncoder(num_layers, num_images=2)
            self.pose = PoseDecoder(self.pose_encoder.channels[-1])
        if loss.use_predictive_mask:
            self.mask = DepthDecoder(self.encoder.channels, num_outputs=self.num_sources)
        self.train()

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Builds the model with random weights; reads no file."""
        return cls(
            config.network.num_layers,
            config.data.height,
            config.data.width,
            config.data.frame_offsets,
            config.data.use_stereo,
            config.loss,
            choose_dtype(config.precision.dtype),
            config.network.freeze_batchnorm,
        )

    def train(self, mode: bool = True) -> Self:
        """Switches between training and evaluation; frozen batch norm stays in evaluation."""
        super().train(mode)
        if self.freeze_batchnorm:
            for module in self.modules():
                if isinstance(module, _BatchNorm):  # including batch norm over all ranks
                    module.eval()
        return self

    def encoders(self) -> list[ResNetEncoder]:
        """Lists the encoders of all networks."""
        return [module for module in self.children() if isinstance(module, ResNetEncoder)]

    def forward(self, batch: Batch, noise_seed: int | None = None) -> StepOutput:
        """Predicts depth and motion, and compares the target with the sources warped by them.

        It never synchronises with the device.

        Args:
            batch: images at the model's size, see `Batch`.
            noise_seed: seed of the tie-breaking noise in training mode; None: the default
                generator.

        Returns:
            The loss, and the values for pictures and statistics, see `StepOutput`.

        Raises:
            ShapeError: if a tensor of the batch has another shape than the model's.
        """
        self._check_shapes(batch)
        batch = Batch(*map(upcast_half, batch))
        with self._autocast(batch.target_aug):
            features = self.encoder(self._arrange(batch.target_aug))
            predictions = Predictions(
                disparities=self.depth(features),
                masks=self.mask(features) if self.loss_config.use_predictive_mask else (),
                T_source_target=self._predict_transforms(batch),
            )
        settings = self.loss_config if self.training else replace(self.loss_config, tie_noise=0.0)
        generator = None
        if noise_seed is not None:
            generator = torch.Generator(batch.target.device).manual_seed(noise_seed)
        with without_autocast(batch.target):
            return compute_loss(predictions, batch, settings, generator)

    @torch.no_grad()
    def predict_scaled_disparity(self, images: torch.Tensor) -> torch.Tensor:
        """Predicts inverse depth; the model must be in eval mode.

        Args:
            images: (B, 3, H, W) in [0, 1], at the model's size.

        Returns:
            Scaled disparity of scale 0 in 1/m, (B, 1, H, W), float32 (float64 for a float64 model).

        Raises:
            ShapeError: if the images have another size.
        """
        check_shape(images, "B 3 H W", "images", H=self.height, W=self.width)
        with self._autocast(images):
            disparity = self.depth(self.encoder(self._arrange(images)))[0]
        return scale_disparity(disparity, self.loss_config.min_depth, self.loss_config.max_depth)

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
        scaled = self.predict_image(_as_rgb(image))
        nearest, farthest = 1 / self.loss_config.min_depth, 1 / self.loss_config.max_depth
        return Prediction(
            depth=np.float32(STEREO_FACTOR if self.use_stereo else 1) / scaled,
            disparity=(scaled - np.float32(farthest)) / np.float32(nearest - farthest),
            is_metric=self.use_stereo,
        )

    @torch.no_grad()
    def predict_transform(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Predicts the motion between two frames; the model must be in eval mode.

        Args:
            first: the earlier frame, (B, 3, H, W) in [0, 1], at the model's size.
            second: the later frame, (B, 3, H, W) in [0, 1].

        Returns:
            (B, 4, 4): p_second = T @ p_first for points in camera coordinates; the translation is
            known up to the scale of the depth.

        Raises:
            ShapeError: if the images have another size.
            ConfigError: if the model has no pose network.
        """
        if not self.frame_offsets:
            raise ConfigError(
                "this model predicts no motion, since it was built for stereo pairs alone; "
                "use one with data.frame_offsets=[-1,1]"
            )
        sizes = check_shape(first, "B 3 H W", "first", H=self.height, W=self.width)
        check_shape(second, "B 3 H W", "second", **sizes)
        with self._autocast(first):
            return self._run_pose_network(first, second)

    def _run_pose_network(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Returns the motion (B, 4, 4) between images (B, 3, H, W)."""
        pair = torch.cat((first, second), dim=1)
        return build_transform(*self.pose(self.pose_encoder(self._arrange(pair))[-1]))

    def _predict_transforms(self, batch: Batch) -> torch.Tensor:
        """Returns T_source_target (B, S, 4, 4): predicted, and for stereo, known.

        The pose network gets each pair in temporal order, one pair at a time: in training mode,
        batch norm uses the statistics of each neighbour separately.
        """
        target, transforms = batch.target_aug, []
        for offset, source in zip(self.frame_offsets, batch.sources_aug.unbind(1), strict=False):
            if offset < 0:
                transforms.append(invert_transform(self._run_pose_network(source, target)))
            else:
                transforms.append(self._run_pose_network(target, source))
        if self.use_stereo:
            transforms.append(batch.T_stereo)
        return torch.stack(transforms, dim=1)

    def _autocast(self, images: torch.Tensor) -> torch.autocast:
        """Returns the context of the networks for images of any shape."""
        is_half = self.dtype != torch.float32
        return torch.autocast(images.device.type, self.dtype, enabled=is_half)

    def _arrange(self, images: torch.Tensor) -> torch.Tensor:
        """Puts (B, C, H, W) into the fastest memory format."""
        return images.contiguous(memory_format=choose_memory_format(self.dtype, images.device))

    def _check_shapes(self, batch: Batch) -> None:
        sizes = {"H": self.height, "W": self.width, "S": self.num_sources}
        for name, expected in BATCH_SHAPES.items():
            sizes = check_shape(getattr(batch, name), expected, f"batch.{name}", **sizes)


def _as_rgb(image: str | Path | Image.Image | NDArray[np.uint8]) -> Image.Image:
    """Converts a file, a PIL image or an array (H, W, 3) uint8 to an upright RGB image."""
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return convert_to_rgb(image)
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or not array.size:
        raise ShapeError(
            f"image is {array.dtype} of shape {array.shape}; expected uint8 of (H, W, 3)"
        )
    return Image.fromarray(array)
