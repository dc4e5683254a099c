import pytest
import torch

from md2dist.runs.resume_state import GuardState
from md2dist.training.gradient_guard import GradientGuard

CPU = torch.device("cpu")


def make_twins(initial_scale, kind=torch.optim.Adam):
    """The same parameter and optimizer twice: one guarded, one plain."""
    guarded, plain = (torch.nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2))
    optimizers = [kind([p], lr=0.1, fused=True) for p in (guarded, plain)]
    return guarded, plain, *optimizers, GradientGuard(optimizers[0], CPU, initial_scale)


@pytest.mark.parametrize("initial_scale", [None, 1024.0])
def test_a_guarded_step_on_scaled_gradients_is_the_plain_step(initial_scale):
    guarded, plain, optimizer, plain_optimizer, guard = make_twins(initial_scale)
    for factor in (3.0, -0.5, 7.0):
        guarded.grad = plain.grad = None
        guard.scale_loss((guarded.square() * factor).sum()).backward()
        (plain.square() * factor).sum().backward()
        optimizer.step()
        plain_optimizer.step()
        torch.testing.assert_close(guarded, plain, rtol=0, atol=0)
        torch.testing.assert_close(guard.norm, plain.grad.norm())
    assert guard.num_skipped == 0


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])  # which decays by 0.01
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_step_with_a_bad_gradient_changes_nothing_and_is_counted(bad, kind):
    guarded, _, optimizer, _, guard = make_twins(1024.0, kind)
    guarded.grad = torch.tensor([1024.0, 0.0])
    optimizer.step()
    weights, moment = guarded.clone(), optimizer.state[guarded]["exp_avg"].clone()
    guarded.grad = torch.tensor([1.0, bad])
    optimizer.step()
    assert torch.equal(guarded, weights)
    assert torch.equal(optimizer.state[guarded]["exp_avg"], moment)
    assert optimizer.state[guarded]["step"] == 1
    assert guard.num_skipped == 1
    assert guard.scale == 512.0
    assert not torch.isfinite(guard.norm)


@pytest.mark.parametrize("initial_scale", [None, 1024.0])
def test_a_loss_that_is_not_finite_skips_the_step_though_its_gradient_were(initial_scale):
    guarded, _, optimizer, _, guard = make_twins(initial_scale)
    weights = guarded.clone()
    guard.scale_loss(guarded.sum() + torch.inf).backward()
    optimizer.step()
    assert torch.equal(guarded, weights)
    assert guard.num_skipped == 1


def test_the_scale_doubles_after_two_thousand_clean_steps_and_not_before():
    guarded, _, optimizer, _, guard = make_twins(8.0)
    guard.num_clean_steps.fill_(1998)
    guarded.grad = torch.zeros(2)
    optimizer.step()
    assert guard.scale == 8.0
    optimizer.step()
    assert guard.scale == 16.0
    assert guard.num_clean_steps == 0


def test_without_a_scale_nothing_is_ever_scaled():
    guarded, _, optimizer, _, guard = make_twins(None)
    guarded.grad = torch.tensor([1.0, float("nan")])
    optimizer.step()
    assert guard.scale == 1.0
    loss = torch.tensor(3.0)
    assert guard.scale_loss(loss) == loss


def test_a_run_that_turns_to_fp16_starts_with_the_scale_of_its_settings():
    single, half = make_twins(None)[-1], make_twins(64.0)[-1]
    half.restore(single.state())
    assert half.scale == 64.0


def test_a_restored_guard_continues_where_the_saved_one_was():
    guarded, _, optimizer, _, guard = make_twins(64.0)
    for gradient in (1.0, float("inf"), 1.0):
        guarded.grad = torch.full((2,), gradient)
        optimizer.step()
    other = make_twins(8.0)[-1]
    other.restore(guard.state())
    assert other.state() == guard.state() == GuardState(scale=32, num_clean_steps=1, num_skipped=1)
