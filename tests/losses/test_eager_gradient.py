import gc
import weakref

import torch
from helpers.device import gradcheck

from md2dist.losses.eager_gradient import differentiate_eagerly


def loss_and_square(x, y):
    square = x.square()
    return (square * y).sum(), square


def random_inputs():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 4, dtype=torch.float64, generator=generator).unbind(0)


def test_the_gradient_passes_gradcheck_and_scales_with_what_follows():
    x, y = (tensor.clone().requires_grad_() for tensor in random_inputs())
    assert gradcheck(lambda x, y: differentiate_eagerly(loss_and_square, x, y)[0] ** 2, (x, y))


def test_values_are_those_of_the_function_and_only_the_loss_carries_a_gradient():
    x, y = random_inputs()
    loss, square = differentiate_eagerly(loss_and_square, x.clone().requires_grad_(), y)
    assert torch.equal(loss.detach(), (x.square() * y).sum())
    assert torch.equal(square, x.square())
    assert loss.requires_grad
    assert not square.requires_grad


def test_inputs_that_require_no_gradient_get_none():
    x, y = random_inputs()
    y = y.clone().requires_grad_()
    differentiate_eagerly(loss_and_square, x, y)[0].backward()
    assert x.grad is None
    assert torch.equal(y.grad, x.square())


def test_without_gradients_the_function_is_just_called():
    x, y = random_inputs()
    with torch.no_grad():
        loss, _ = differentiate_eagerly(loss_and_square, x.clone().requires_grad_(), y)
    assert not loss.requires_grad


class Kept:
    """A tensor that a graph keeps for its backward pass."""

    def __init__(self, tensor):
        self.tensor = tensor


def test_of_the_graph_between_inputs_and_loss_only_the_gradient_is_kept():
    kept = []

    def keep(tensor):
        holder = Kept(tensor)
        kept.append(weakref.ref(holder))
        return holder

    x, y = (tensor.clone().requires_grad_() for tensor in random_inputs())
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda holder: holder.tensor):
        loss, _ = differentiate_eagerly(loss_and_square, x, y)
    gc.collect()
    alive = [holder().tensor for holder in kept if holder() is not None]
    assert len(kept) > len(alive)
    loss.backward()
    assert [x.grad.tolist(), y.grad.tolist()] == [tensor.tolist() for tensor in alive]
