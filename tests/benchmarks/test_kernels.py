"""Kernels and host waits of a training step, counted as on a GPU."""

import pytest
import torch
from helpers.connected_ranks import run_ranks

from md2dist.benchmarks.kernels import KernelCounter
from md2dist.benchmarks.steps import bench_step
from md2dist.config import load_config

MOST_KERNELS = 1130


def test_views_and_memory_are_no_kernels_and_lists_take_as_many_as_their_tensors():
    x = torch.rand(4, 6)
    with KernelCounter() as counter:
        torch.empty_like(x.unflatten(1, (2, 3)).permute(2, 0, 1)[None])
    assert not counter.kernels
    with KernelCounter() as counter:
        torch.relu(x.t() + 1)
        torch._foreach_add_([torch.rand(1) for _ in range(111)], 1)
    assert counter.kernels == {"add": 1, "relu": 1, "rand": 111, "_foreach_add_": 2}
    assert not counter.host_waits


@pytest.mark.parametrize(
    "ask",
    [
        lambda x: x.sum().item(),
        lambda x: x[x > 0.5],
        lambda x: x.nonzero(),
        lambda x: float(x[0]),
        lambda x: torch.equal(x, x),
    ],
)
def test_what_the_host_reads_is_a_wait(ask):
    x = torch.rand(5)
    with KernelCounter() as counter:
        ask(x)
    assert counter.host_waits.total() > 0


def count_kernels(world):
    counts = []
    for size in (2, 5):
        words = ["data.height=64", "data.width=96", "data.use_stereo=true", "precision.dtype=fp32"]
        config = load_config([], [*words, f"optim.micro_batch_size={size}"])
        figures = bench_step(config, 1, world)
        counts.append((figures["kernels_per_step"], figures["host_waits_per_step"]))
    return counts


@pytest.mark.slow
def test_a_step_takes_as_many_kernels_for_any_batch_and_no_wait():
    ((counts),) = run_ranks(count_kernels, 1)
    (kernels, num_waits), other = counts
    assert other == (kernels, num_waits)
    assert kernels <= MOST_KERNELS
    assert num_waits == 0
