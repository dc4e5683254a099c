"""The pose decoder against a loop in float64, and its precision."""

import numpy as np
import pytest
import torch
from helpers.device import current_device, gradcheck
from reference.model import pose

from md2dist.networks.pose_decoder import PoseDecoder
from md2dist.weights.layout import published_names


@pytest.fixture
def decoder() -> PoseDecoder:
    torch.manual_seed(0)
    return PoseDecoder(5).to(current_device(), torch.float64)


@pytest.fixture
def feature() -> torch.Tensor:
    return torch.randn(2, 5, 3, 4, dtype=torch.float64, generator=torch.manual_seed(1))


def test_the_motion_agrees_with_the_loop_in_float64(decoder, feature):
    own = decoder.state_dict()
    state = {
        theirs: own[ours].cpu().numpy() for ours, theirs in published_names("pose", own).items()
    }
    with torch.no_grad():
        axis_angle, translation = decoder(feature)
    assert axis_angle.shape == translation.shape == (2, 3)
    for index in range(2):
        expected = pose([feature[index].cpu().numpy()], state)
        np.testing.assert_allclose(axis_angle[index].cpu().numpy(), expected[0], rtol=1e-11)
        np.testing.assert_allclose(translation[index].cpu().numpy(), expected[1], rtol=1e-11)


def test_the_features_of_two_images_are_squeezed_alike_and_joined_in_order(feature):
    decoder = PoseDecoder(5, num_features=2).to(current_device(), torch.float64)
    own = decoder.state_dict()
    state = {
        theirs: own[ours].cpu().numpy() for ours, theirs in published_names("pose", own).items()
    }
    with torch.no_grad():
        motion = torch.cat(decoder(feature, feature.flip(0)), 1).cpu().numpy()
    for index in range(2):
        first, second = feature[index].cpu().numpy(), feature[1 - index].cpu().numpy()
        expected = np.concatenate(pose([first, second], state))
        np.testing.assert_allclose(motion[index], expected, rtol=1e-11)
    assert not np.allclose(motion[0], motion[1])


def test_gradients_agree_with_finite_differences(decoder, feature):
    assert gradcheck(decoder, feature.requires_grad_(), atol=1e-7)


def test_every_parameter_gets_a_gradient_but_the_rows_of_the_second_motion(decoder, feature):
    axis_angle, translation = decoder(feature)
    (axis_angle.sum() + translation.sum()).backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
    head = decoder.head.weight.grad
    assert head is not None
    assert head[:6].any(dim=(1, 2, 3)).all()
    assert not head[6:].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_under_autocast_the_last_convolution_alone_computes_in_float32(decoder, feature, dtype):
    decoder.float()
    dtypes = {}
    for name, module in decoder.named_children():
        module.register_forward_hook(
            lambda module, args, result, name=name: dtypes.update({name: result.dtype})
        )
    with torch.autocast(current_device().type, dtype):
        motion = torch.cat(decoder(feature.to(dtype)))
    assert dtypes == {"squeeze": dtype, "conv1": dtype, "conv2": dtype, "head": torch.float32}
    assert motion.dtype == torch.float32
    assert (motion != motion.to(dtype)).double().mean() > 0.5
    expected = torch.cat(decoder.double()(feature))
    torch.testing.assert_close(motion.double(), expected, rtol=0, atol=1e-4)
