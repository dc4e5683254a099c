from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from helpers.connected_ranks import run_ranks
from torch import nn

from md2dist.training.gradient_average import GradientAverage

NUM_MICRO_BATCHES = 3


def make_layers():
    torch.manual_seed(0)
    return nn.ModuleList(nn.Linear(4, 4).double() for _ in range(6))


def run_backward(layers, order, seed):
    """A backward pass that reaches the layers in an order, from the last one."""
    x = torch.randn(2, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for index in reversed(order):
        x = layers[index](x).tanh()
    x.square().sum().backward()


def average(rank, world_size, order, bucket_bytes=0, dtype=None):
    """Gradients of a step on this rank, and the sizes of what was sent in each micro-batch."""
    layers = make_layers()
    sent = [[] for _ in range(NUM_MICRO_BATCHES + 1)]
    micro_batch = 0
    reducer = GradientAverage(
        layers.parameters(), lambda: micro_batch == NUM_MICRO_BATCHES - 1, dtype, bucket_bytes
    )
    all_reduce = dist.all_reduce

    def note(flat, **options):
        sent[micro_batch].append((flat.numel(), flat.dtype))
        return all_reduce(flat, **options)

    with patch("torch.distributed.all_reduce", note):
        for micro_batch in range(NUM_MICRO_BATCHES):
            run_backward(layers, order, seed=micro_batch * world_size + rank)
        micro_batch = NUM_MICRO_BATCHES
        reducer.finish()
    return [x.grad for x in layers.parameters()], sent


def expected(world_size, orders):
    """Means over the ranks, of gradients that one process computes in float64."""
    layers = make_layers()
    for rank in range(world_size):
        for micro_batch in range(NUM_MICRO_BATCHES):
            run_backward(layers, orders[rank], seed=micro_batch * world_size + rank)
    return [
        torch.zeros_like(x) if x.grad is None else x.grad / world_size for x in layers.parameters()
    ]


USUAL = [5, 4, 3, 2, 1, 0]
ODD = [0, 2, 1, 5]  # another order, and two layers without a gradient


def average_in_several_ways(world):
    orders = [ODD if world.rank == 1 else USUAL, USUAL]
    return [
        average(world.rank, world.world_size, order, size) for order in orders for size in (0, 300)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_gradients_are_the_means_over_the_ranks_whatever_each_reaches_first(world_size):
    by_rank = run_ranks(average_in_several_ways, world_size)
    different = [ODD if rank == 1 else USUAL for rank in range(world_size)]
    for number, orders in enumerate([different, different, *[[USUAL] * world_size] * 2]):
        means = expected(world_size, orders)
        for results in by_rank:
            gradients, _ = results[number]
            for gradient, mean in zip(gradients, means, strict=True):
                torch.testing.assert_close(gradient, mean, rtol=1e-14, atol=1e-14)
            sizes = [[size for part in results[number][1] for size in part] for results in by_rank]
        assert all(of_rank == sizes[0] for of_rank in sizes)  # the same buckets in the same order


@pytest.mark.slow
def test_buckets_are_sent_while_the_last_backward_pass_runs_and_not_before():
    by_rank = run_ranks(average_in_several_ways, 2)
    for results in by_rank:
        *before, during, after = results[2][1]
        assert before == [[], []]
        assert len(during) == 12
        assert after == []
    *_, during, after = by_rank[1][0][1]  # layers without a gradient hold back what follows
    assert after
    assert len(during) + len(after) == 12


def average_in_bf16(world):
    return average(world.rank, world.world_size, USUAL, 300, torch.bfloat16)


@pytest.mark.slow
def test_gradients_can_travel_in_bf16_and_return_in_their_own_type():
    for gradients, sent in run_ranks(average_in_bf16, 2):
        assert {dtype for part in sent for _, dtype in part} == {torch.bfloat16}
        for gradient, mean in zip(gradients, expected(2, [USUAL] * 2), strict=True):
            assert gradient.dtype == torch.float64
            largest = mean.abs().max()
            assert (gradient - mean).abs().max() < 2**-7 * largest
            assert (gradient != mean).any()


def average_with_frozen_layer(world):
    """Gradients where one layer is frozen; it neither gets nor sends one."""
    layers = make_layers()
    layers[2].requires_grad_(False)
    reducer = GradientAverage(layers.parameters(), lambda: True)
    run_backward(layers, USUAL, seed=world.rank)
    reducer.finish()
    return [x.grad is None for x in layers.parameters()]


@pytest.mark.slow
def test_frozen_parameters_get_no_gradient():
    (are_missing,) = run_ranks(average_with_frozen_layer, 1)
    assert are_missing == [index // 2 == 2 for index in range(12)]
