"""Encoders of the depth network by their `network.encoder`: a ResNet, or a model of timm."""

from md2dist.networks.resnet import ResNetEncoder
from md2dist.networks.timm_encoder import TimmEncoder
from md2dist.networks.timm_models import TIMM, create_backbone

# Takes images in [0, 1] and normalises them itself; has `channels`, of four features (strides 4, 8,
# 16, 32) or of five (from 2).
Encoder = ResNetEncoder | TimmEncoder


def build_encoder(name: str, num_layers: int, height: int, width: int) -> Encoder:
    """Builds the encoder of the depth network with random weights.

    Args:
        name: ``resnet``, or ``timm:`` and the name of a model.
        num_layers: depth of the ResNet.
        height: rows of the images, divisible by 32.
        width: columns of the images, divisible by 32.

    Raises:
        ConfigError: if the model of timm cannot be built, or its features do not fit.
    """
    if not name.startswith(TIMM):
        return ResNetEncoder(num_layers)
    backbone = create_backbone(name.removeprefix(TIMM), height, width)
    return TimmEncoder(name, backbone, height, width)
