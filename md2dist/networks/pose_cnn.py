"""PoseCNN: one motion from an image pair, without a ResNet."""

import torch
from torch import nn
from torch.nn import functional

from md2dist.networks.pose_decoder import POSE_SCALE
from md2dist.networks.precision import upcast_half, without_autocast

_KERNEL_SIZES = (7, 5, 3, 3, 3, 3, 3)
_CHANNELS = (16, 32, 64, 128, 256, 256, 256)


class PoseCNN(nn.Module):
    """Seven strided convolutions and a mean over the image.

    The loss multiplies its translations by the mean inverse depth of the target, see
    `compute_loss`.

    Source: Zhou et al., "Unsupervised Learning of Depth and Ego-Motion from Video", CVPR 2017,
    section 3.4; scaled by the depth as in Godard et al., ICCV 2019, supplementary material.
    """

    def __init__(self):
        super().__init__()
        shapes = zip((6, *_CHANNELS), _CHANNELS, _KERNEL_SIZES, strict=False)
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, size, stride=2, padding=size // 2)
            for before, after, size in shapes
        )
        self.head = nn.Conv2d(_CHANNELS[-1], 6, 1)

    def forward(self, pair: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Estimates the motion between two images.

        Args:
            pair: (B, 6, H, W) in [0, 1], the earlier image first.

        Returns:
            Axis-angle in radians and translation, in units of the mean depth, (B, 3) each; float64
            for float64 images, else float32.
        """
        x = pair
        for conv in self.convs:
            x = functional.relu(conv(x))
        with without_autocast(x):
            motion = POSE_SCALE * self.head(upcast_half(x)).mean(dim=(2, 3))
        return motion[:, 0:3], motion[:, 3:6]
