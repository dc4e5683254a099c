import pytest
import torch
from helpers.connected_ranks import run_ranks

from md2dist.benchmarks.ddp_engine import DdpEngine
from md2dist.benchmarks.steps import prepare_step
from md2dist.config import load_config
from md2dist.distributed.world import World
from md2dist.errors import ConfigError
from md2dist.model import MonodepthModel
from md2dist.training.batch_plan import plan_batches

SETTINGS = [
    *("data.height=64", "data.width=64", "network.weights=scratch", "precision.dtype=fp32"),
    "optim.micro_batch_size=1",
]


def take_first_steps(world):
    """Loss and gradient norm of the first step, with each engine."""
    config = load_config(overrides=SETTINGS)
    results = []
    for engine in ("deepspeed", "ddp"):
        torch.manual_seed(0)
        model = MonodepthModel.from_config(config)
        torch.manual_seed(world.rank)  # of the images
        result = prepare_step(config, world, 2, model, engine)(0)
        results.append((float(result.losses[0]), float(result.gradient_norm)))
    return results


@pytest.mark.slow
def test_a_step_has_the_loss_and_the_averaged_gradients_of_ddp():
    by_rank = run_ranks(take_first_steps, 2)
    assert by_rank[0][0][0] != by_rank[1][0][0]  # of different images
    for ours, ddp in by_rank:
        assert ours == pytest.approx(ddp, rel=1e-5)


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("optim.grad_accum_steps=2", "gradient accumulation"),
        ("deepspeed.gradient_dtype=bf16", "settings of deepspeed"),
        ("precision.compile=true", "precision.compile"),
        ("network.use_sync_batchnorm=true", "network.use_sync_batchnorm"),
    ],
)
def test_ddp_refuses_what_it_does_not_do(word, named):
    config = load_config(overrides=[*SETTINGS, word])
    plan = plan_batches(config.optim, 1)
    world = World(0, 0, 1, torch.device("cpu"))
    with pytest.raises(ConfigError, match=named):
        DdpEngine(MonodepthModel.from_config(config), config, plan, world)
