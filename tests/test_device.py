"""The numeric tests themselves: where their tensors are."""

import pytest
import torch
from torch import nn

from md2dist.networks.pose_decoder import PoseDecoder

pytestmark = pytest.mark.device_check


@pytest.fixture(scope="module")
def from_a_fixture():
    return torch.zeros(2)


def test_what_a_numeric_test_makes_is_on_the_device_of_the_option(device, from_a_fixture):
    made = [
        from_a_fixture,
        torch.tensor([1.0]),
        torch.arange(3),
        torch.rand(2, dtype=torch.float64),
    ]
    assert {tensor.device.type for tensor in made} == {device.type}
    leaf = torch.rand(3, requires_grad=True)
    assert leaf.is_leaf
    assert leaf.requires_grad


def test_what_the_package_makes_and_what_names_its_device_stays_where_it_is():
    made = [PoseDecoder(2).head.weight, nn.Linear(1, 1).weight, torch.zeros(1, device="cpu")]
    assert {tensor.device.type for tensor in made} == {"cpu"}


def test_random_numbers_are_the_same_on_every_device():
    drawn = torch.rand(2, generator=torch.Generator().manual_seed(3))
    assert drawn.tolist() == pytest.approx([0.0042, 0.1056], abs=1e-4)
