"""Encoder around a backbone of timm: normalisation, choice and layout of its features."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from md2dist.errors import ConfigError

STRIDES = (2, 4, 8, 16, 32)  # all but the first are required


class TimmEncoder(nn.Module):
    """Backbone of timm as an encoder; returns one feature per resolution.

    Images are normalised by the mean and deviation of the backbone's own weights, which the state
    keeps. Dropout and stochastic depth are off, since a training step must depend on nothing but
    seed, step and samples. A feature is taken as the backbone returns it, (C, H, W) or (H, W, C);
    one run at the size of the model shows which, and that the sizes are right.

    Args:
        name: the `network.encoder`, for messages.
        backbone: maps (B, 3, H, W) to features; has `feature_info` and `pretrained_cfg` of timm's
            models with `features_only`.
        height: rows of the images, divisible by 32.
        width: columns of the images, divisible by 32.

    Attributes:
        channels: number of channels of the features, the finest first: of five (strides 2, 4, 8,
            16, 32), or of four where the backbone has none at stride 2.

    Raises:
        ConfigError: if the backbone lacks a feature at stride 4, 8, 16 or 32, or fails for this
            size.
    """

    mean: torch.Tensor  # (3, 1, 1), as std
    std: torch.Tensor

    def __init__(self, name: str, backbone: nn.Module, height: int, width: int):
        super().__init__()
        self.name = name
        self.backbone = backbone
        for key in ("mean", "std"):
            values = torch.tensor(backbone.pretrained_cfg[key])  # pyright: ignore
            self.register_buffer(key, values[:, None, None])
        strides = backbone.feature_info.reduction()  # pyright: ignore
        last_of = {stride: index for index, stride in enumerate(strides)}
        if not last_of.keys() >= set(STRIDES[1:]):
            raise ConfigError(
                f"network.encoder={name} has features at strides {', '.join(map(str, strides))}; "
                f"expected {', '.join(map(str, STRIDES[1:]))}, and if it has one, {STRIDES[0]}"
            )
        self._strides = [stride for stride in STRIDES if stride in last_of]
        self._indices = [last_of[stride] for stride in self._strides]
        channels = backbone.feature_info.channels()  # pyright: ignore
        self.channels = tuple(channels[index] for index in self._indices)
        _switch_off_dropout(backbone)
        self._is_channels_last = self._find_layouts(height, width)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Encodes images.

        Args:
            images: (B, 3, H, W) in [0, 1]; H and W are those of the model.

        Returns:
            Features (B, channels[i], H / s, W / s) at the strides s, the finest first.
        """
        return [
            feature.permute(0, 3, 1, 2) if is_last else feature
            for feature, is_last in zip(
                self._run_backbone(images), self._is_channels_last, strict=True
            )
        ]

    def _run_backbone(self, images: torch.Tensor) -> Sequence[torch.Tensor]:
        """Returns the chosen features of images (B, 3, H, W), in the backbone's layout."""
        features = self.backbone((images - self.mean) / self.std)
        return [features[index] for index in self._indices]

    @torch.no_grad()
    def _find_layouts(self, height: int, width: int) -> list[bool]:
        """Returns whether each feature ends with its channels."""
        self.eval()
        try:
            features = self._run_backbone(self.mean.expand(1, 3, height, width))
        except Exception as error:  # a backbone may fail in any way
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigError(
                f"network.encoder={self.name} fails on images of {height}x{width}: {reason}; use "
                "another model or size"
            ) from None
        self.train()
        layouts = []
        for stride, channels, feature in zip(self._strides, self.channels, features, strict=True):
            size, shape = (height // stride, width // stride), tuple(feature.shape[1:])
            if shape not in ((channels, *size), (*size, channels)):
                raise ConfigError(
                    f"network.encoder={self.name} has a feature {shape} at stride {stride} for "
                    f"images of {height}x{width}; expected {(channels, *size)}; use another model "
                    "or size"
                )
            layouts.append(shape != (channels, *size))
        return layouts


def _switch_off_dropout(backbone: nn.Module) -> None:
    """Sets the probability of dropout, and of dropping whole paths or blocks, to 0."""
    module: Any
    for module in backbone.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
        elif hasattr(module, "drop_prob"):  # timm's DropPath and DropBlock
            module.drop_prob = 0.0
