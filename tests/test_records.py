import pytest
import torch

from md2dist.errors import ShapeError
from md2dist.records import Batch

HEIGHT, WIDTH, NUM, NUM_SOURCES = 64, 96, 2, 3


def make_batch():
    target = torch.zeros(NUM, 3, HEIGHT, WIDTH)
    sources = torch.zeros(NUM, NUM_SOURCES, 3, HEIGHT, WIDTH)
    K, T_stereo = torch.zeros(NUM, 3, 3), torch.zeros(NUM, 4, 4)
    return Batch(target, target, sources, sources, K, T_stereo, torch.zeros(NUM))


def test_a_batch_of_the_right_shapes_is_accepted():
    make_batch().check_shapes(H=HEIGHT, W=WIDTH, S=NUM_SOURCES)


@pytest.mark.parametrize("name", Batch._fields)
def test_a_tensor_of_the_wrong_shape_is_named(name):
    batch = make_batch()
    wrong = batch._replace(**{name: getattr(batch, name)[..., :-1]})
    if name == "target":  # alone, it would bind the number of samples
        message = r"batch\.target has shape \(2, 3, 64, 95\); expected .* with H=64, W=96, S=3"
    else:
        message = rf"batch\.{name} has shape .* with .*B=2"
    with pytest.raises(ShapeError, match=message):
        wrong.check_shapes(H=HEIGHT, W=WIDTH, S=NUM_SOURCES)
