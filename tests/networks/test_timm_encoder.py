"""Backbones of timm as encoders, with a stand-in for timm; test_timm_models.py has timm's own."""

import sys

import pytest
import torch
from networks import timm_stub
from torch.nn import functional

from md2dist.errors import ConfigError
from md2dist.networks.depth_decoder import DepthDecoder
from md2dist.networks.encoders import build_encoder
from md2dist.networks.timm_models import create_backbone

SIZE = (64, 96)


@pytest.fixture(autouse=True)
def timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", timm_stub)


def build(name):
    return build_encoder(f"timm:{name}", 18, *SIZE)


@pytest.mark.parametrize(
    ("name", "strides"),
    [("five", (2, 4, 8, 16, 32)), ("four", (4, 8, 16, 32)), ("more", (2, 4, 8, 16, 32))],
)
def test_features_come_finest_first_with_channels_before_rows_at_known_strides(name, strides):
    encoder = build(name)
    assert encoder.channels == tuple(3 + stride for stride in strides)
    features = encoder(torch.rand(2, 3, *SIZE))
    expected = [(2, 3 + stride, 64 // stride, 96 // stride) for stride in strides]
    assert [tuple(feature.shape) for feature in features] == expected


@pytest.mark.parametrize("name", ["five", "four"])
def test_images_are_normalised_by_the_mean_and_deviation_of_the_backbone(name):
    encoder, images = build(name).double().eval(), torch.rand(2, 3, *SIZE, dtype=torch.float64)
    mean, std = (torch.tensor(x, dtype=torch.float64) for x in (timm_stub.MEAN, timm_stub.STD))
    normalised = (images - mean[:, None, None]) / std[:, None, None]
    first, stage = encoder._strides[0], encoder.backbone.stages[0]
    expected = stage(functional.avg_pool2d(normalised, first)) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(encoder(images)[0], expected, rtol=1e-6, atol=1e-6)
    assert {"mean", "std"} < encoder.state_dict().keys()


def test_nothing_is_dropped_at_random_in_training():
    encoder, images = build("five").train(), torch.rand(2, 3, *SIZE)
    state = torch.get_rng_state()
    for first, second in zip(encoder(images), encoder(images), strict=True):
        assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


def test_building_leaves_the_running_statistics_as_they_start():
    encoder = build("five")
    assert encoder.training
    for name, value in encoder.state_dict().items():
        if "running" in name or "tracked" in name:
            assert torch.equal(value, torch.full_like(value, float(name.endswith("var"))))


def test_without_a_feature_at_stride_2_the_decoder_is_one_whose_skip_there_counts_nothing():
    four = DepthDecoder((4, 5, 6, 7)).double()
    five = DepthDecoder((3, 4, 5, 6, 7)).double()
    state = four.state_dict()
    padded = torch.zeros_like(five.state_dict()["after.3.weight"])
    padded[:, : state["after.3.weight"].shape[1]] = state["after.3.weight"]
    five.load_state_dict(state | {"after.3.weight": padded})
    features = [
        torch.randn(2, channels, 32 >> level, 48 >> level, dtype=torch.float64)
        for level, channels in enumerate((3, 4, 5, 6, 7))
    ]
    for ours, theirs in zip(four(features[1:]), five(features), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_backbone_of_fixed_size_is_built_for_the_size_of_the_model():
    assert build("fixed").backbone.size == SIZE


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("flat", "timm:flat has features at strides 16, 16, 16; expected 4, 8, 16, 32, and if"),
        ("stuck", r"timm:stuck fails on images of 64x96: Input size must be \(224, 224\)\.; use"),
        ("wrong", r"wrong has a feature \(7, 8, 12\) at stride 4 .* expected \(7, 16, 24\)"),
        ("whole", "timm:whole cannot be built for images of 64x96: features_only is not impl"),
        ("fore", "timm stub has no such model; the nearest are timm:more, timm:four, "),
        ("four.third", "no such model; the nearest are timm:four.first, "),
        ("xyz", r"no such model; timm\.list_models\(\) lists all$"),
    ],
)
def test_what_is_no_encoder_is_refused_in_one_line(name, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build(name)
    assert "\n" not in str(caught.value)


def test_a_missing_timm_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"needs timm: pip install .*\[timm\]\"$"):
        create_backbone("convnext_tiny", *SIZE)


def test_a_timm_that_cannot_be_imported_is_explained(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "timm")
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="imported: operator torchvision::nms is missing; in"):
        create_backbone("convnext_tiny", *SIZE)
