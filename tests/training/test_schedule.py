import math
import re

import pytest

from md2dist.config import OptimConfig
from md2dist.training.batch_plan import plan_batches
from md2dist.training.schedule import advise_on_rate, count_steps, learning_rate


def test_the_published_rate_drops_after_exactly_fifteen_epochs():
    rates = [learning_rate(OptimConfig(), 12, epoch, 100 * epoch, 2000) for epoch in range(20)]
    assert rates == [1e-4] * 15 + [1e-4 * 0.1] * 5


def test_the_rate_can_drop_again_and_again():
    optim = OptimConfig(lr=1.0, lr_drop_every=2, lr_drop_factor=0.5, lr_drop_epoch=1)
    rates = [learning_rate(optim, 12, epoch, 0, 9) for epoch in range(6)]
    assert rates == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


def test_the_rate_is_the_configured_one_for_any_batch_unless_told_which_batch_it_is_for():
    for batch in (4, 12, 96):
        assert learning_rate(OptimConfig(lr=1e-4), batch, 0, 0, 9) == 1e-4
        scaled = learning_rate(OptimConfig(lr=1e-4, lr_batch_size=12), batch, 0, 0, 9)
        assert scaled == pytest.approx(1e-4 * batch / 12, rel=1e-12)


def test_larger_batches_at_the_published_rate_are_reported():
    advice = advise_on_rate(OptimConfig(), 96, world_size=8)
    assert "the global batch is 96" in advice
    assert advice.endswith("consider optim.lr_batch_size=12, which scales it")
    advice = advise_on_rate(OptimConfig(), 48, world_size=4)
    settings = dict(re.findall(r"optim\.(\w+)=(\d+)", advice.partition(" or ")[2]))
    optim = OptimConfig(**{name: int(value) for name, value in settings.items()})
    assert plan_batches(optim, 4) == (12, 3, 1)
    for optim in (OptimConfig(lr_batch_size=12), OptimConfig(lr=3e-4)):
        assert advise_on_rate(optim, 96, 8) is None
    assert advise_on_rate(OptimConfig(), 12, 1) is None


def test_the_warm_up_rises_in_equal_parts_to_the_rate_and_then_leaves_it_alone():
    optim = OptimConfig(lr=1.0, warmup_steps=4, lr_batch_size=12)
    rates = [learning_rate(optim, 24, 0, step, 9) for step in range(6)]
    assert rates == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0], rel=1e-12)


def test_the_cosine_falls_from_the_rate_after_the_warm_up_to_zero_after_the_last_step():
    optim = OptimConfig(lr=2.0, schedule="cosine", warmup_steps=2, lr_batch_size=12)
    rates = [learning_rate(optim, 6, step // 3, step, 8) for step in range(9)]
    half = [math.cos(math.pi * done / 12) ** 2 for done in range(7)]  # by the half-angle formula
    assert rates == pytest.approx([0.5, 1.0, *half], rel=1e-12, abs=1e-15)


def test_the_cosine_does_not_depend_on_the_epoch_and_loses_what_it_gains():
    optim = OptimConfig(lr=1.0, schedule="cosine")
    rates = [learning_rate(optim, 12, 0, step, 10) for step in range(11)]
    assert rates == [learning_rate(optim, 12, 7, step, 10) for step in range(11)]
    sums = [before + after for before, after in zip(rates, reversed(rates), strict=True)]
    assert sums == pytest.approx([1.0] * 11, rel=1e-12)


def test_a_warm_up_as_long_as_the_run_leaves_no_cosine():
    optim = OptimConfig(lr=1.0, schedule="cosine", warmup_steps=5)
    assert [learning_rate(optim, 12, 0, step, 4) for step in range(4)] == [0.2, 0.4, 0.6, 0.8]


def test_a_run_ends_with_its_epochs_or_its_steps_whichever_comes_first():
    assert count_steps(OptimConfig(num_epochs=3), steps_per_epoch=10) == 30
    assert count_steps(OptimConfig(num_epochs=3, max_steps=7), steps_per_epoch=10) == 7
    assert count_steps(OptimConfig(num_epochs=3, max_steps=70), steps_per_epoch=10) == 30
