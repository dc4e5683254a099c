"""Model: networks, geometry and loss in one module, since DeepSpeed wraps a single one.

The networks run in the configured precision, by autocast; their output layers, the geometry and the
loss run in float32, or in float64 after ``.double()``.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Self

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from md2dist.config import Config, LossConfig, NetworkConfig
from md2dist.errors import ConfigError, check_shape
from md2dist.geometry.disparity import scale_disparity
from md2dist.geometry.pose import build_transform, scale_translation
from md2dist.image_prediction import ImagePredictor
from md2dist.kernel_style import prefers_few_kernels
from md2dist.networks.depth_decoder import DepthDecoder
from md2dist.networks.encoders import Encoder, build_encoder
from md2dist.networks.memory_format import choose_memory_format
from md2dist.networks.motion import predict_one_by_one, predict_together
from md2dist.networks.pose_cnn import PoseCNN
from md2dist.networks.pose_decoder import PoseDecoder
from md2dist.networks.precision import choose_dtype, upcast_half, without_autocast
from md2dist.networks.resnet import ResNetEncoder
from md2dist.networks.weight_copies import half_copies
from md2dist.objective import Noise, Predictions, compute_loss, draw_noise
from md2dist.records import Batch, StepOutput


class MonodepthModel(ImagePredictor):
    """Monodepth2: losses in training, depth and motion in evaluation.

    Source: Godard et al., "Digging Into Self-Supervised Monocular Depth Estimation", ICCV 2019.

    Args:
        network: encoders and pose network; their initial weights are loaded elsewhere.
        height: rows of the images, divisible by 32.
        width: columns of the images, divisible by 32.
        frame_offsets: temporal sources, ascending, without 0; if empty, there is no pose network.
        use_stereo: whether the other camera is a source.
        loss: settings of the loss.
        dtype: type of the networks' computations, except for their output layers.
    """

    def __init__(
        self,
        network: NetworkConfig,
        height: int,
        width: int,
        frame_offsets: Sequence[int],
        use_stereo: bool,
        loss: LossConfig,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        self.network_config = network
        self.height, self.width = height, width
        self.frame_offsets = tuple(frame_offsets)
        self.use_stereo = use_stereo
        self.num_sources = len(self.frame_offsets) + use_stereo
        self.loss_config = loss
        self.dtype = dtype

        self.encoder = build_encoder(network.encoder, network.num_layers, height, width)
        self.depth = DepthDecoder(self.encoder.channels)
        if self.frame_offsets:
            self._add_pose_network(network)
        if loss.use_predictive_mask:
            self.mask = DepthDecoder(self.encoder.channels, num_outputs=self.num_sources)
        self.train()

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Builds the model with random weights; reads no file."""
        return cls(
            config.network,
            config.data.height,
            config.data.width,
            config.data.frame_offsets,
            config.data.use_stereo,
            config.loss,
            choose_dtype(config.precision.dtype),
        )

    def train(self, mode: bool = True) -> Self:
        """Switches between training and evaluation; frozen batch norm stays in evaluation."""
        super().train(mode)
        if self.network_config.freeze_batchnorm:
            for module in self.modules():
                if isinstance(module, _BatchNorm):  # including batch norm over all ranks
                    module.eval()
        return self

    def encoders(self) -> list[Encoder]:
        """Lists the encoders of all networks."""
        return [module for module in self.children() if isinstance(module, Encoder)]

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
        batch.check_shapes(H=self.height, W=self.width, S=self.num_sources)
        batch = Batch(*map(upcast_half, batch))
        settings = self.loss_config if self.training else replace(self.loss_config, tie_noise=0.0)
        generator = None
        if noise_seed is not None:
            generator = torch.Generator(batch.target.device).manual_seed(noise_seed)
        noise = draw_noise(batch, settings, self._num_in_mean_depth > 0, generator)
        return self._run_and_compare(batch, settings, noise)

    def compile_step(self, backend: str = "inductor") -> None:
        """Makes `forward` compile networks and loss, with their gradient, into one graph.

        The first call compiles, for minutes, as does one with tensors of other shapes. Parameters
        and buffers keep their names.

        Args:
            backend: of torch.compile.
        """
        self._run_and_compare = torch.compile(
            self._run_and_compare, fullgraph=True, dynamic=False, backend=backend
        )

    def _run_and_compare(self, batch: Batch, settings: LossConfig, noise: Noise) -> StepOutput:
        predictions = self.run_networks(batch)
        with without_autocast(batch.target):
            return compute_loss(predictions, batch, settings, noise)

    def run_networks(self, batch: Batch) -> Predictions:
        """Runs all networks on the augmented images of a batch, whose shapes are not checked."""
        with self._autocast(batch.target_aug), self._copying_weights(batch.target_aug):
            features, frames = self._encode(batch)
            return Predictions(
                disparities=self.depth(features),
                masks=self.mask(features) if self.loss_config.use_predictive_mask else (),
                T_source_target=self._predict_transforms(frames, batch.T_stereo),
                num_in_mean_depth=self._num_in_mean_depth,
            )

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
            pair = first, second
            if self._pose_type == "shared":
                pair = (self.encoder(self._arrange(frame))[-1] for frame in pair)
            transform = self._estimate_motion(*pair)
        if self._pose_type == "posecnn":  # in units of the mean depth
            inverse_depth = self.predict_scaled_disparity(first).mean(dim=(1, 2, 3))
            transform = scale_translation(transform, inverse_depth)
        return transform

    @property
    def _pose_type(self) -> str:
        return self.network_config.pose_type

    @property
    def _num_in_mean_depth(self) -> int:
        return len(self.frame_offsets) if self._pose_type == "posecnn" else 0

    def _add_pose_network(self, network: NetworkConfig) -> None:
        if network.pose_type == "separate_resnet":
            num_layers = network.pose_num_layers or network.num_layers
            num_pairs = 1 if network.use_sync_batchnorm else len(self.frame_offsets)
            self.pose_encoder = ResNetEncoder(num_layers, num_images=2, num_groups=num_pairs)
            self.pose = PoseDecoder(self.pose_encoder.channels[-1])
        elif network.pose_type == "shared":
            self.pose = PoseDecoder(self.encoder.channels[-1], num_features=2)
        else:
            self.pose = PoseCNN()

    def _encode(self, batch: Batch) -> tuple[Sequence[torch.Tensor], list[torch.Tensor]]:
        """Returns the target's features, and what the pose network sees of each frame.

        That is (B, 3, H, W), or with a shared encoder, the last feature (B, C, H / 32, W / 32). It
        encodes all frames together: in training mode, batch norm uses their common statistics.
        """
        frames = [batch.target_aug, *batch.sources_aug.unbind(1)[: len(self.frame_offsets)]]
        if self._pose_type != "shared" or not self.frame_offsets:
            return self.encoder(self._arrange(batch.target_aug)), frames
        features = [x.chunk(len(frames)) for x in self.encoder(self._arrange(torch.cat(frames)))]
        return [of_frames[0] for of_frames in features], list(features[-1])

    def _estimate_motion(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Returns T_second_first (B, 4, 4) of two frames, or of their last shared features."""
        if self._pose_type == "shared":
            return build_transform(*self.pose(first, second))
        pair = self._arrange(torch.cat((first, second), dim=1))
        if self._pose_type == "separate_resnet":
            pair = self.pose_encoder(pair)[-1]
        return build_transform(*self.pose(pair))

    def _predict_transforms(
        self, frames: Sequence[torch.Tensor], T_stereo: torch.Tensor
    ) -> torch.Tensor:
        """Returns T_source_target (B, S, 4, 4): predicted, and for stereo, known.

        Each pair is in temporal order; in training, batch norm uses its own statistics for each.
        """
        transforms = []
        if self.frame_offsets:
            is_whole = prefers_few_kernels(T_stereo.device)
            if self._pose_type == "separate_resnet" and self.network_config.use_sync_batchnorm:
                is_whole = False
            predict = predict_together if is_whole else predict_one_by_one
            transforms = predict(self._estimate_motion, frames, self.frame_offsets)
        if self.use_stereo:
            transforms.append(T_stereo)
        return torch.stack(transforms, dim=1)

    def _copying_weights(self, images: torch.Tensor) -> AbstractContextManager[None]:
        """Returns the context in which networks use half-precision weights; for any shape."""
        is_useful = prefers_few_kernels(images.device) and torch.is_grad_enabled()
        if self.dtype == torch.float32 or not is_useful or torch.compiler.is_compiling():
            return nullcontext()
        return half_copies(self, self.dtype)

    def _autocast(self, images: torch.Tensor) -> torch.autocast:
        """Returns the context of the networks for images of any shape."""
        is_half = self.dtype != torch.float32
        return torch.autocast(images.device.type, self.dtype, enabled=is_half)

    def _arrange(self, images: torch.Tensor) -> torch.Tensor:
        """Puts (B, C, H, W) into the fastest memory format."""
        return images.contiguous(memory_format=choose_memory_format(self.dtype, images.device))
