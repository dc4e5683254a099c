"""ResNet encoders (18, 34, 50, 101, 152 layers) with torchvision's parameter names."""

import torch
from torch import nn

from md2dist.networks.batch_norm import BatchNorm2d, count_batches, sum_group_gradients

IMAGE_MEAN = 0.45
IMAGE_STD = 0.225


class ResNetEncoder(nn.Module):
    """ResNet without its classifier; returns one feature per resolution.

    Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.1; the
    stride of a bottleneck is in its 3x3 convolution.

    Args:
        num_layers: 18, 34, 50, 101 or 152.
        num_images: number of images stacked along the channels: 1 for depth, 2 for pose.
        num_groups: number of groups that training batches join, see `BatchNorm2d`.

    Attributes:
        channels: number of channels of the five features.

    Raises:
        KeyError: for any other `num_layers`.
    """

    def __init__(self, num_layers: int, num_images: int = 1, num_groups: int = 1):
        super().__init__()
        block, num_blocks = ARCHITECTURES[num_layers]
        self.name = f"ResNet-{num_layers}"
        self.num_layers = num_layers
        self.num_images = num_images
        self.num_groups = num_groups
        widths = (64, 128, 256, 512)
        self.channels = (64, *(width * block.expansion for width in widths))

        self.conv1 = nn.Conv2d(3 * num_images, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        stages = [
            _make_stage(block, in_channels, width, number, stride=1 if width == 64 else 2)
            for in_channels, width, number in zip(self.channels, widths, num_blocks, strict=False)
        ]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.apply(_initialise)
        for module in self.modules():
            if isinstance(module, BatchNorm2d):
                module.num_groups = num_groups

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Encodes images.

        Args:
            images: (B, 3 * num_images, H, W) in [0, 1]; H and W divisible by 32.

        Returns:
            Five features (B, channels[i], H / 2^(i+1), W / 2^(i+1)), the finest first.
        """
        count_batches(self, images.device)
        normalised = (images - IMAGE_MEAN) / IMAGE_STD
        with sum_group_gradients(self, images.device):
            features = [self.relu(self.bn1(self.conv1(normalised)))]
            features.append(self.layer1(self.maxpool(features[-1])))
            for stage in (self.layer2, self.layer3, self.layer4):
                features.append(stage(features[-1]))
        return features


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (18 and 34 layers)."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, downsample: nn.Module | None):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(width)
        self.downsample = downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_channels, H, W) to (B, width, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)).add_(shortcut))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with a shortcut (50 layers and more)."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, downsample: nn.Module | None):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = BatchNorm2d(width * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (B, in_channels, H, W) to (B, 4 * width, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)).add_(shortcut))


Block = type[BasicBlock] | type[Bottleneck]
ARCHITECTURES: dict[int, tuple[Block, tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


def _make_stage(
    block: Block, in_channels: int, width: int, num_blocks: int, stride: int
) -> nn.Sequential:
    """Chains blocks; the first one and its shortcut change resolution and channels."""
    out_channels = width * block.expansion
    downsample = None
    if stride != 1 or in_channels != out_channels:
        downsample = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
            BatchNorm2d(out_channels),
        )
    rest = [block(out_channels, width, 1, None) for _ in range(num_blocks - 1)]
    return nn.Sequential(block(in_channels, width, stride, downsample), *rest)


def _initialise(module: nn.Module) -> None:
    """Initialises convolutions for ReLU; batch norm starts at torch's own weight 1 and bias 0."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
