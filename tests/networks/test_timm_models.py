"""Models of timm itself as encoders, where timm can be imported."""

import pytest
import torch
from test_depth_decoder import make_features

from md2dist.errors import ConfigError
from md2dist.networks.depth_decoder import DepthDecoder
from md2dist.networks.encoders import build_encoder
from md2dist.networks.timm_models import create_backbone

SIZE = (64, 96)


@pytest.fixture(autouse=True, scope="module")
def timm():
    try:
        import timm
    except Exception as error:  # without its torchvision
        pytest.skip(f"timm cannot be imported here: {error}")
    return timm


@pytest.mark.parametrize(
    ("name", "num_features"),
    [
        ("convnext_atto", 4),
        ("swin_tiny_patch4_window7_224", 4),
        ("mobilenetv3_small_050", 5),
        ("efficientnet_b0", 5),
        ("mvitv2_tiny", 4),
    ],
)
@pytest.mark.slow
def test_a_model_encodes_and_all_of_it_learns(name, num_features):
    encoder = build_encoder(f"timm:{name}", 18, *SIZE)
    decoder = DepthDecoder(encoder.channels)
    features = encoder(torch.rand(2, 3, *SIZE))
    expected = make_features(encoder.channels, dtype=torch.float32)
    if num_features == 4:
        expected = make_features((1, *encoder.channels), dtype=torch.float32)[1:]
    assert [x.shape for x in features] == [x.shape for x in expected]
    maps = decoder(features)
    assert [tuple(m.shape) for m in maps] == [(2, 1, 64 >> s, 96 >> s) for s in range(4)]
    torch.stack([m.square().mean() for m in maps]).sum().backward()
    parts = [*encoder.named_parameters(), *decoder.named_parameters()]
    assert [key for key, weight in parts if weight.grad is None] == []
    assert next(encoder.parameters()).grad.isfinite().all()


def test_the_mean_and_deviation_are_those_of_the_pretrained_weights(timm):
    name = "mobilevit_xxs"
    cfg = timm.get_pretrained_cfg(name)
    encoder = build_encoder(f"timm:{name}", 18, *SIZE)
    assert encoder.mean.flatten().tolist() == pytest.approx(cfg.mean)
    assert encoder.std.flatten().tolist() == pytest.approx(cfg.std)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_tiny_patch16_224", "has features at strides 16, 16, 16; expected 4, 8, 16, 32"),
        ("convnext_tinny", "has no such model; the nearest are timm:convnext_tiny, "),
        ("convnext_tiny.in1k", r"has no such model; the nearest are timm:convnext_tiny\."),
        ("inception_v3", "fails on images of 64x96: "),
    ],
)
def test_other_models_and_unknown_names_are_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        build_encoder(f"timm:{name}", 18, *SIZE)


def test_a_name_of_the_hub_is_no_name_of_timm():
    with pytest.raises(ConfigError, match="no such model"):
        create_backbone("hf_hub:someone/something", *SIZE)
