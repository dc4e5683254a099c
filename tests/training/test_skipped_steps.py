import logging
from functools import partial
from math import isfinite

import pytest
import torch
from helpers.connected_ranks import run_ranks

from md2dist.config import load_config
from md2dist.errors import TrainingError
from md2dist.model import MonodepthModel
from md2dist.records import FrameBatch
from md2dist.training.batch_plan import BatchPlan
from md2dist.training.engine import make_engine
from md2dist.training.host_copy import HostCopy
from md2dist.training.skipped_steps import BAD_GRADIENT, BAD_LOSS, SkippedSteps
from md2dist.training.step import TrainingStep

FINE, BAD, SUM = (
    (0, 0, 0),
    (0, BAD_GRADIENT, 2),
    (0, 0, 2),
)  # rank 0, rank 1, skipped (counted by each)


def follow(steps, max_in_a_row=3, is_main=True):
    skipped = SkippedSteps(max_in_a_row, lambda step, rank: [f"s{step}r{rank}", "x"], is_main)
    for step, flags in enumerate(steps):
        skipped.after_step(step, HostCopy(torch.tensor(flags)))
    skipped.flush()


def test_a_skipped_step_is_told_with_its_rank_and_samples_by_the_main_rank(caplog):
    with caplog.at_level(logging.WARNING, logger="md2dist"):
        follow([FINE, BAD, FINE], is_main=False)
        assert caplog.text == ""
        follow([FINE, BAD, FINE])
    assert "step 2 was skipped" in caplog.text
    assert "rank 1: s1r1, x" in caplog.text
    assert "rank 0" not in caplog.text


def test_where_a_loss_is_bad_the_gradients_of_other_ranks_are_not_blamed(caplog):
    follow([(BAD_LOSS, BAD_GRADIENT, 2)])
    assert "rank 0: s0r0, x" in caplog.text
    assert "rank 1" not in caplog.text


def test_a_crowd_is_not_told_one_by_one(caplog):
    keys = [f"key {number}." for number in range(100)]
    skipped = SkippedSteps(3, lambda step, rank: iter(keys), is_main=True)
    skipped.after_step(0, HostCopy(torch.tensor([1] * 64 + [64])))
    skipped.flush()
    assert caplog.text.count("key 0.") == caplog.text.count("rank ") == 12
    assert "key 12." not in caplog.text


def test_an_overflow_of_the_sum_blames_no_rank(caplog):
    follow([SUM])
    assert "though each rank's gradient is" in caplog.text


@pytest.mark.parametrize("is_main", [True, False])
def test_only_skipped_steps_in_a_row_end_the_run_and_they_do_on_all_ranks(is_main):
    follow([BAD, BAD, FINE, BAD, SUM, FINE], is_main=is_main)
    with pytest.raises(TrainingError, match=r"3 steps in a row.*step 4 \(rank 1: s3r1, x\)"):
        follow([FINE, BAD, SUM, BAD], is_main=is_main)


def spoil_one_rank(zero_stage, world):
    """One good step, then one in which rank 1 alone has a camera that is not a number."""
    words = ["data.height=64", "data.width=64", "network.weights=scratch", "precision.dtype=fp32"]
    words += ["optim.micro_batch_size=2", f"deepspeed.zero_stage={zero_stage}"]
    config = load_config([], words)
    torch.manual_seed(0)
    plan = BatchPlan(4, 2, 1)
    engine, guard = make_engine(MonodepthModel.from_config(config), config, plan, world)
    take_step = TrainingStep(engine, guard, config, plan, world, 10)
    torch.manual_seed(world.rank)
    frames = torch.randint(256, (2, 3, 64, 64, 3), dtype=torch.uint8)
    K = torch.tensor([[37.0, 0, 32], [0, 123, 32], [0, 0, 1]]).expand(2, 3, 3)
    good = FrameBatch(frames, K, torch.eye(4).expand(2, 4, 4), torch.tensor([0, 1]))
    bad = good._replace(K=K * float("nan")) if world.rank == 1 else good
    flags, states, norms = [], [], []
    for step, batch in enumerate((good, bad, good)):
        result = take_step([batch], 0, step)
        flags.append(result.flags.read())
        norms.append(float(result.gradient_norm))
        states.append({name: value.clone() for name, value in engine.module.state_dict().items()})
    return flags, states, norms, float(guard.num_skipped)


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [0, 1, 2])
def test_a_bad_sample_on_one_rank_is_seen_by_all_and_changes_no_weight(zero_stage):
    results = run_ranks(partial(spoil_one_rank, zero_stage))
    for flags, (before, after, later), norms, num_skipped in results:
        # The minimum over the sources hides it from the loss, not from the gradient.
        assert flags == [[0, 0, 0], [0, BAD_GRADIENT, 2], [0, 0, 0]]
        assert [isfinite(norm) for norm in norms] == [True, False, True]
        assert num_skipped == 1
        for name, value in before.items():
            if "running" not in name and "num_batches" not in name:
                assert torch.equal(value, after[name]), name
            assert torch.isfinite(after[name]).all(), name
        assert not torch.equal(after["encoder.conv1.weight"], later["encoder.conv1.weight"])
