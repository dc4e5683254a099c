"""The compiled step against the eager one, in the shape that a GPU runs."""

from functools import partialmethod
from unittest.mock import patch

import pytest
import torch
from helpers.connected_ranks import run_ranks
from test_model import SMALL, STEREO, make_batch, make_model
from torch._dynamo.utils import counters

from md2dist.benchmarks.steps import bench_step, prepare_step
from md2dist.config import load_config
from md2dist.errors import ConfigError
from md2dist.geometry.warp import warp
from md2dist.kernel_style import few_kernels_everywhere
from md2dist.model import MonodepthModel
from md2dist.records import Batch

pytestmark = pytest.mark.slow


QUICK_STEP = partialmethod(MonodepthModel.compile_step, backend="aot_eager")
COMPILE_QUICKLY = patch.object(MonodepthModel, "compile_step", QUICK_STEP)


def to_double(batch):
    return Batch(*(x.double() if x.is_floating_point() else x for x in batch))


@pytest.fixture(autouse=True)
def _without_graphs_of_others():
    torch._dynamo.reset()
    counters.clear()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["network.pose_type=shared", "loss.use_v1_multiscale=true", "loss.use_average=true"],
        ["network.pose_type=posecnn", "loss.use_auto_mask=false", "loss.use_predictive_mask=true"],
    ],
)
def test_one_graph_has_the_loss_the_gradients_and_the_statistics_of_the_eager_step(words):
    eager, compiled = make_model(*words).double(), make_model(*words).double()
    compiled.compile_step(backend="aot_eager")
    batch = to_double(make_batch())
    with few_kernels_everywhere():
        for seed in (1, 2):
            expected, output = (model(batch, noise_seed=seed) for model in (eager, compiled))
            expected.loss.backward()
            output.loss.backward()
            assert torch.allclose(output.loss, expected.loss, rtol=1e-12, atol=0)
            assert torch.equal(output.auto_mask, expected.auto_mask)
    assert counters["stats"]["unique_graphs"] == 1
    assert compiled.state_dict().keys() == eager.state_dict().keys()
    for a, b in zip(compiled.parameters(), eager.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            assert torch.allclose(a.grad, b.grad, rtol=1e-8, atol=1e-12)
    for a, b in zip(compiled.buffers(), eager.buffers(), strict=True):
        assert torch.allclose(a, b)


def test_a_compiled_warp_of_nan_coordinates_is_nan_and_so_is_its_gradient():
    compiled = torch.compile(warp, backend="aot_eager", fullgraph=True)
    images, coordinates = torch.rand(1, 1, 3, 8, 8), torch.rand(1, 1, 2, 8, 8) * 7
    coordinates.requires_grad_()
    assert torch.equal(compiled(images, coordinates), warp(images, coordinates))
    damaged = coordinates.detach().clone()
    damaged[0, 0, 0, 3, 3] = float("nan")
    warped = compiled(images, damaged.requires_grad_())
    warped.sum().backward()
    assert warped.isnan().all()
    assert damaged.grad.isnan().all()


def take_steps(world):
    """Of a model, eager and compiled: loss and gradient norm of two steps, sum of the weights."""
    words = [*SMALL, *STEREO, "optim.micro_batch_size=1"]
    results = []
    for setting in ("precision.compile=false", "precision.compile=true"):
        config = load_config([], [*words, setting])
        torch.manual_seed(0)
        model = MonodepthModel.from_config(config)
        with COMPILE_QUICKLY, few_kernels_everywhere():
            take_step = prepare_step(config, world, 2, model)
            steps = [take_step(step) for step in range(2)]
        values = [(float(step.losses[0]), float(step.gradient_norm)) for step in steps]
        results += [values, sum(weight.double().sum().item() for weight in model.parameters())]
    return [*results, counters["stats"]["unique_graphs"]]


def test_deepspeed_takes_the_same_steps_with_a_compiled_model_on_two_ranks():
    ranks = run_ranks(take_steps, 2)
    for eager, _, compiled, _, num_graphs in ranks:
        for expected, values in zip(eager, compiled, strict=True):
            assert values == pytest.approx(expected, rel=1e-2)  # of errors in float32
        assert num_graphs == 1
    assert ranks[0][0] != ranks[1][0]  # each has images of its own
    assert ranks[0][1] == ranks[1][1]
    assert ranks[0][3] == ranks[1][3]


def count_kernels(world):
    words = [*SMALL, *STEREO, "optim.micro_batch_size=1"]
    with COMPILE_QUICKLY:
        return [
            bench_step(load_config([], [*words, f"precision.compile={setting}"]), 1, world)
            for setting in ("false", "true")
        ]


def test_the_benchmark_counts_the_kernels_of_the_step_before_it_is_compiled():
    ((eager, compiled),) = run_ranks(count_kernels, 1)
    assert compiled["kernels_per_step"] == eager["kernels_per_step"] > 100
    assert [figures["precision"] for figures in (eager, compiled)] == [
        "float32",
        "float32, compiled",
    ]


def test_it_is_refused_with_batch_norm_over_all_ranks():
    with pytest.raises(ConfigError, match=r"precision\.compile=true excludes network\.use_sync"):
        load_config([], ["precision.compile=true", "network.use_sync_batchnorm=true"])
