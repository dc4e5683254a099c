import pytest
import torch
from helpers.connected_ranks import run_ranks
from torch import nn

from md2dist.distributed.replicas import ReplicaError, check_replicas, digest


def test_a_digest_sees_one_bit_and_the_order():
    tensor = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    changed = tensor.clone()
    changed.view(torch.int32)[1, 2] ^= 1
    assert digest(tensor) == digest(tensor.clone())
    assert digest(tensor) != digest(changed)
    assert digest(tensor) != digest(tensor.flip(0))
    words = torch.tensor([5, 9], dtype=torch.int32).view(torch.float32)
    traded = torch.tensor([7, 8], dtype=torch.int32).view(torch.float32)  # 5 + 2 * 9 = 7 + 2 * 8
    assert digest(words) != digest(traded)
    assert digest(torch.zeros(2)) != digest(torch.tensor([0.0, -0.0]))
    assert digest(torch.tensor(7)) != digest(torch.tensor(8))


def make_models(world):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    check_replicas(model)
    if world.rank == 1:
        model[1].running_mean[1] += 1e-7
    try:
        check_replicas(model)
    except ReplicaError as error:
        return str(error)


@pytest.mark.slow
def test_a_rank_that_drifted_apart_is_named_with_its_tensor():
    for message in run_ranks(make_models):
        assert message.startswith("rank 1 and rank 0 hold different values of 1.running_mean")
