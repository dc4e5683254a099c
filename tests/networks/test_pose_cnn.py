"""PoseCNN against a loop in float64, and its precision."""

import numpy as np
import pytest
import torch
from helpers.device import current_device
from reference.model import pose_cnn
from torch import nn

from md2dist.networks.pose_cnn import PoseCNN


@pytest.fixture
def network() -> PoseCNN:
    torch.manual_seed(0)
    return PoseCNN().to(current_device(), torch.float64)


@pytest.fixture
def pair() -> torch.Tensor:
    return torch.rand(2, 6, 64, 96, dtype=torch.float64, generator=torch.manual_seed(1))


def test_the_motion_agrees_with_the_loop_in_float64(network, pair):
    state = {name: value.cpu().numpy() for name, value in network.state_dict().items()}
    with torch.no_grad():
        axis_angle, translation = network(pair)
    assert axis_angle.shape == translation.shape == (2, 3)
    for index in range(2):
        expected = pose_cnn(pair[index].cpu().numpy(), state)
        np.testing.assert_allclose(axis_angle[index].cpu().numpy(), expected[0], rtol=1e-10)
        np.testing.assert_allclose(translation[index].cpu().numpy(), expected[1], rtol=1e-10)


def test_its_convolutions_have_the_kernels_and_channels_of_the_paper(network):
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert [conv.kernel_size[0] for conv in convs] == [7, 5, 3, 3, 3, 3, 3, 1]
    assert [conv.out_channels for conv in convs] == [16, 32, 64, 128, 256, 256, 256, 6]
    assert [conv.stride[0] for conv in convs] == [2] * 7 + [1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_under_autocast_the_last_convolution_alone_computes_in_float32(network, pair, dtype):
    network.float()
    dtypes = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, args, result: dtypes.append(result.dtype))
    with torch.autocast(current_device().type, dtype):
        motion = torch.cat(network(pair.float()))
    assert dtypes == [dtype] * 7 + [torch.float32]
    assert motion.dtype == torch.float32
