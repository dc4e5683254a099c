"""Depth decoder: one sigmoid map per scale from the encoder's features."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from md2dist.networks.precision import upcast_half, without_autocast

DECODER_CHANNELS = (256, 128, 64, 32, 16)  # coarsest level first
NUM_SCALES = 4


class DepthDecoder(nn.Module):
    """Five levels of convolution, upsampling and skip connection, with four output heads.

    The finest level has no skip connection. Without a feature at stride 2 (four features), the
    level before it has none either: it computes from the upsampled features alone, as the finest
    one always does, and no feature is made up for it.

    Source: Godard et al., ICCV 2019, supplementary material, table of the depth network.

    Args:
        channels: channels of the encoder's features, the finest first: five from stride 2, or four
            from stride 4, to stride 32.
        num_outputs: channels of each output map: 1 for disparity.
    """

    def __init__(self, channels: Sequence[int], num_outputs: int = 1):
        super().__init__()
        inputs = (channels[-1], *DECODER_CHANNELS)
        skips = (*reversed(channels[:-1]), 0, 0)  # the finest levels have none
        levels = zip(inputs, DECODER_CHANNELS, skips, strict=False)
        before, after = [], []
        for in_channels, out_channels, skip_channels in levels:
            before.append(nn.Conv2d(in_channels, out_channels, 3))
            after.append(nn.Conv2d(out_channels + skip_channels, out_channels, 3))
        self.before = nn.ModuleList(before)  # convolutions before the upsampling, coarsest first
        self.after = nn.ModuleList(after)  # convolutions after it, with the skip connection
        self.heads = nn.ModuleList(  # scale 0 first
            nn.Conv2d(width, num_outputs, 3) for width in reversed(DECODER_CHANNELS[-NUM_SCALES:])
        )

    def forward(self, features: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Decodes the features of an encoder.

        Args:
            features: the finest first: (B, channels[i], H / s, W / s) at the strides s.

        Returns:
            Four maps in (0, 1), scale 0 first: (B, num_outputs, H / 2^s, W / 2^s), float32 for
            half-precision and float32 features, float64 for float64 ones.
        """
        x, *skips = reversed(features)
        decoded = []
        for level, (before, after) in enumerate(zip(self.before, self.after, strict=True)):
            x = functional.elu(before(_pad_reflect(x)), inplace=True)
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            if level < len(skips):
                x = torch.cat((x, skips[level]), dim=1)
            x = functional.elu(after(_pad_reflect(x)), inplace=True)
            decoded.append(x)
        with without_autocast(x):
            return tuple(
                torch.sigmoid(head(upcast_half(_pad_reflect(x))))
                for head, x in zip(self.heads, reversed(decoded), strict=False)
            )


def _pad_reflect(x: torch.Tensor) -> torch.Tensor:
    """Pads (B, C, H, W) by one reflected pixel; CPU autocast would pad in float32."""
    with without_autocast(x):
        return functional.pad(x, (1, 1, 1, 1), mode="reflect")
