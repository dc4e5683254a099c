"""Pose decoder: one motion from the last feature of an image pair, or of each of its images."""

import torch
from torch import nn
from torch.nn import functional

from md2dist.networks.precision import upcast_half, without_autocast

POSE_SCALE = 0.01  # starts training near the identity


class PoseDecoder(nn.Module):
    """Pose decoder: four convolutions and a mean over the image.

    The published network has 12 outputs, two motions, of which only the first is used. The outputs
    of the second are kept, so that published weights fit.

    Source: Godard et al., ICCV 2019, supplementary material, table of the pose network.

    Args:
        in_channels: channels of the encoder's last feature.
        num_features: 1 for a pose encoder, which sees both images together; 2 for an encoder that
            sees one image at a time.
    """

    def __init__(self, in_channels: int, num_features: int = 1):
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, 256, 1)
        self.conv1 = nn.Conv2d(256 * num_features, 256, 3, padding=1)
        self.conv2 = nn.Conv2d(256, 256, 3, padding=1)
        self.head = nn.Conv2d(256, 12, 1)

    def forward(self, *features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Decodes the motion between two images.

        Args:
            features: (B, in_channels, H / 32, W / 32) each, the last one of `ResNetEncoder`; two of
                them in temporal order.

        Returns:
            Axis-angle in radians and translation, in units of the depth, (B, 3) each; float64 for
            float64 features, else float32.
        """
        x = torch.cat([functional.relu(self.squeeze(feature)) for feature in features], dim=1)
        x = functional.relu(self.conv1(x))
        x = functional.relu(self.conv2(x))
        with without_autocast(x):
            motions = POSE_SCALE * self.head(upcast_half(x)).mean(dim=(2, 3))
        return motions[:, 0:3], motions[:, 3:6]
