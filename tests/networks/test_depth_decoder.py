"""The depth decoder against a loop in float64, its symmetries and its precision."""

import numpy as np
import pytest
import torch
from helpers.device import current_device, gradcheck
from reference.model import depth_maps

from md2dist.networks.depth_decoder import DepthDecoder
from md2dist.weights.layout import published_names

TINY = (3, 4, 5, 6, 7)  # channels of an imaginary encoder, all different


def make_features(channels=TINY, batch=2, height=64, width=96, dtype=torch.float64):
    return [
        torch.randn(batch, number, height >> level, width >> level, dtype=dtype)
        for level, number in enumerate(channels, start=1)
    ]


@pytest.fixture
def decoder() -> DepthDecoder:
    torch.manual_seed(0)
    return DepthDecoder(TINY).to(current_device(), torch.float64)


@pytest.mark.parametrize("num_outputs", [1, 3])
def test_maps_agree_with_the_loop_in_float64(num_outputs):
    torch.manual_seed(0)
    decoder = DepthDecoder(TINY, num_outputs).to(current_device(), torch.float64)
    own = decoder.state_dict()
    state = {
        theirs: own[ours].cpu().numpy() for ours, theirs in published_names("depth", own).items()
    }
    features = make_features(batch=2)
    with torch.no_grad():
        maps = decoder(features)
    for index in range(2):
        expected = depth_maps([feature[index].cpu().numpy() for feature in features], state)
        for ours, theirs in zip(maps, expected, strict=True):
            np.testing.assert_allclose(ours[index].cpu().numpy(), theirs, rtol=1e-12)


def test_maps_have_the_size_of_their_scale_and_lie_between_0_and_1(decoder):
    maps = decoder(make_features())
    assert [tuple(m.shape) for m in maps] == [(2, 1, 64 >> s, 96 >> s) for s in range(4)]
    assert all(((m > 0) & (m < 1)).all() for m in maps)


def test_features_without_structure_give_maps_without_borders(decoder):
    """Zero padding, or any other seam, would show."""
    constant = [feature[..., :1, :1].expand_as(feature) for feature in make_features()]
    for scale_map in decoder(constant):
        torch.testing.assert_close(scale_map, scale_map[..., :1, :1].expand_as(scale_map))


def test_mirrored_features_through_mirrored_filters_give_mirrored_maps(decoder):
    features = make_features()
    expected = [scale_map.flip(-1) for scale_map in decoder(features)]
    for module in decoder.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data = module.weight.flip(-1)
    mirrored = decoder([feature.flip(-1) for feature in features])
    torch.testing.assert_close(list(mirrored), expected)


def test_gradients_of_the_features_agree_with_finite_differences(decoder):
    features = [feature.requires_grad_() for feature in make_features(batch=1, width=64)]
    assert gradcheck(lambda *args: decoder(args), features, fast_mode=True)


def test_gradients_of_the_weights_agree_with_finite_differences(decoder):
    features, parameters = make_features(batch=1, width=64), dict(decoder.named_parameters())

    def decode(*values):
        weights = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(decoder, weights, (features,))

    assert gradcheck(decode, tuple(parameters.values()), fast_mode=True)


def test_every_parameter_gets_a_gradient(decoder):
    sum(scale_map.mean() for scale_map in decoder(make_features())).backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.all(), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_under_autocast_the_heads_alone_compute_in_float32(dtype):
    torch.manual_seed(0)
    decoder = DepthDecoder(TINY).to(current_device())
    dtypes = {}
    for name, module in decoder.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(
                lambda module, args, result, name=name: dtypes.update({name: result.dtype})
            )
    with torch.autocast(current_device().type, dtype):
        maps = decoder(make_features(dtype=dtype))
    for name, found in dtypes.items():
        assert found == (torch.float32 if name.startswith("heads") else dtype), name
    for scale_map in maps:
        assert scale_map.dtype == torch.float32
        assert (scale_map != scale_map.to(dtype)).double().mean() > 0.9


def test_in_bfloat16_the_maps_stay_close_to_those_in_float32():
    torch.manual_seed(0)
    decoder = DepthDecoder(TINY).to(current_device())
    features = make_features(dtype=torch.float32)
    expected = decoder(features)
    with torch.autocast(current_device().type, torch.bfloat16):
        maps = decoder([feature.bfloat16() for feature in features])
    for ours, theirs in zip(maps, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=5e-3)


def test_the_memory_format_changes_nothing(decoder):
    features = make_features()
    expected = decoder(features)
    channels_last = [f.contiguous(memory_format=torch.channels_last) for f in features]
    torch.testing.assert_close(decoder(channels_last), expected, rtol=1e-12, atol=0)
