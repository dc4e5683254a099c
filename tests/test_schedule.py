from md2dist.config import OptimConfig
from md2dist.training.schedule import count_steps, learning_rate


def test_the_published_rate_drops_after_exactly_fifteen_epochs():
    rates = [learning_rate(OptimConfig(), epoch) for epoch in range(20)]
    assert rates == [1e-4] * 15 + [1e-4 * 0.1] * 5


def test_a_run_ends_with_its_epochs_or_its_steps_whichever_comes_first():
    assert count_steps(OptimConfig(num_epochs=3), steps_per_epoch=10) == 30
    assert count_steps(OptimConfig(num_epochs=3, max_steps=7), steps_per_epoch=10) == 7
    assert count_steps(OptimConfig(num_epochs=3, max_steps=70), steps_per_epoch=10) == 30
