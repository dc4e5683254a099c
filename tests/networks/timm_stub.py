"""Stand-in for timm, with what `features_only` promises; tests of the seam need no timm."""

import sys
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional

__version__ = "stub"
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)


class FeatureInfo:
    def __init__(self, strides, channels):
        self._strides, self._channels = strides, channels

    def reduction(self):
        return self._strides

    def channels(self):
        return self._channels


class Backbone(nn.Module):
    """Features of averaged images; the one at stride s has 3 + s channels."""

    def __init__(self, strides, channels_last=False, size=None, wrong=False):
        super().__init__()
        channels = [3 + stride for stride in strides]
        self.feature_info = FeatureInfo(list(strides), channels)
        self.pretrained_cfg = {"mean": MEAN, "std": STD}
        self.stages = nn.ModuleList(nn.Conv2d(3, number, 1) for number in channels)
        self.norms = nn.ModuleList(nn.BatchNorm2d(number) for number in channels)
        self.dropout = nn.Dropout(0.5)
        self.channels_last, self.size, self.wrong = channels_last, size, wrong

    def forward(self, images):
        if self.size:
            assert images.shape[2:] == self.size, f"Input size must be {self.size}.\nAsk others."
        features = []
        for stride, stage, norm in zip(
            self.feature_info.reduction(), self.stages, self.norms, strict=True
        ):
            x = functional.avg_pool2d(images, 2 * stride if self.wrong else stride)
            x = self.dropout(norm(stage(x)))
            features.append(x.permute(0, 2, 3, 1) if self.channels_last else x)
        return features


BACKBONES = {
    "five": lambda size: Backbone((2, 4, 8, 16, 32)),
    "four": lambda size: Backbone((4, 8, 16, 32), channels_last=True),
    "more": lambda size: Backbone((1, 2, 4, 8, 16, 32)),
    "flat": lambda size: Backbone((16, 16, 16)),
    "fixed": lambda size: Backbone((4, 8, 16, 32), size=size or (224, 224)),
    "stuck": lambda size: Backbone((4, 8, 16, 32), size=(224, 224)),
    "wrong": lambda size: Backbone((4, 8, 16, 32), wrong=True),
    "whole": None,
}


def list_models(pretrained=False):
    return ["four.first", "four.second"] if pretrained else list(BACKBONES)


def get_pretrained_cfg(name):
    return SimpleNamespace(fixed_input_size=name == "fixed")


def create_model(name, features_only, pretrained, **options):
    assert features_only
    if BACKBONES[name.partition(".")[0]] is None:
        raise RuntimeError("features_only is not implemented for it.\nUse another.")
    if pretrained and not name.startswith("four"):
        raise RuntimeError(f"No pretrained weights exist for {name}.")
    backbone = BACKBONES[name.partition(".")[0]](options.get("img_size"))
    if pretrained:
        with torch.no_grad():
            backbone.stages[0].weight.fill_(0.25)
    return backbone


def install():
    """Takes timm's place in this process."""
    sys.modules["timm"] = sys.modules[__name__]
