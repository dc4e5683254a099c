import pytest
import torch
from helpers.device import gradcheck
from reference import geometry as reference

from md2dist.geometry.disparity import disparity_to_depth, scale_disparity
from md2dist.geometry.resize import downsample, upsample


def test_the_ends_of_disparity_are_the_ends_of_depth():
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert torch.allclose(scale_disparity(ends, 0.1, 100), torch.tensor([0.01, 10.0]).double())
    assert torch.allclose(disparity_to_depth(ends, 0.1, 100), torch.tensor([100.0, 0.1]).double())


def test_depth_is_the_inverse_of_scaled_disparity_and_falls():
    disparity = torch.linspace(0, 1, 101, dtype=torch.float64)
    depth = disparity_to_depth(disparity, 0.5, 80)
    assert torch.allclose(depth * scale_disparity(disparity, 0.5, 80), torch.ones(101).double())
    assert (depth.diff() < 0).all()


def test_depth_passes_gradcheck():
    disparity = torch.rand(2, 1, 3, 4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda d: disparity_to_depth(d, 0.1, 100), disparity)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_upsampling_agrees_with_its_twin(factor):
    torch.manual_seed(0)
    maps = torch.rand(2, 2, 3, 5, dtype=torch.float64)
    result = upsample(maps, 3 * factor, 5 * factor)
    for plane, expected in zip(maps.flatten(0, 1), result.flatten(0, 1), strict=True):
        twin = torch.tensor(reference.upsample(plane.cpu().numpy(), 3 * factor, 5 * factor))
        assert torch.allclose(expected, twin, rtol=0, atol=1e-14)


def test_upsampling_to_the_same_size_changes_nothing():
    maps = torch.rand(1, 1, 4, 6)
    assert upsample(maps, 4, 6) is maps


def test_upsampling_passes_gradcheck():
    maps = torch.rand(1, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda m: upsample(m, 4, 6), maps)


@pytest.mark.parametrize("scale", [0, 1, 2])
def test_downsampling_agrees_with_its_twin_for_images_and_stacks_of_them(scale):
    torch.manual_seed(0)
    stack = torch.rand(2, 3, 3, 8, 12, dtype=torch.float64)
    result = downsample(stack, scale)
    assert torch.equal(result[:, 1], downsample(stack[:, 1], scale))
    for image, expected in zip(stack.flatten(0, 1), result.flatten(0, 1), strict=True):
        twin = torch.tensor(reference.downsample(image.cpu().numpy(), scale))
        assert torch.allclose(expected, twin, rtol=0, atol=1e-14)
