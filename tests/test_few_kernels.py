"""The model as a GPU runs it, with few kernels, against the way of a CPU: both run on the CPU."""

from contextlib import nullcontext

import pytest
import torch
from test_model import make_batch, make_model

from md2dist.kernel_style import few_kernels_everywhere


@pytest.mark.parametrize("words", [[], ["network.pose_type=shared"], ["network.pose_type=posecnn"]])
@pytest.mark.parametrize("offsets", ["[-1,1]", "[-3,-1,1,2]", "[-1]", "[1]"])
def test_all_pairs_at_once_have_the_motions_and_statistics_of_each_by_itself(words, offsets):
    if offsets != "[-1,1]" and words:
        pytest.skip("one kind of pose network is enough")
    words = [*words, f"data.frame_offsets={offsets}", "network.freeze_batchnorm=false"]
    models = make_model(*words), make_model(*words)
    batch = make_batch(len(models[0].frame_offsets))
    one_by_one = models[0](batch, noise_seed=1)
    with few_kernels_everywhere():
        together = models[1](batch, noise_seed=1)
    assert torch.allclose(
        together.T_source_target, one_by_one.T_source_target, atol=1e-6, rtol=1e-5
    )
    for (name, a), b in zip(models[0].named_buffers(), models[1].buffers(), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5), name


def test_half_precision_copies_of_the_weights_give_the_gradients_of_autocast():
    models = make_model("precision.dtype=bf16"), make_model("precision.dtype=bf16")
    batch = make_batch()
    for model, is_copying in zip(models, (False, True), strict=True):
        with few_kernels_everywhere():
            if not is_copying:
                model._copying_weights = lambda images: nullcontext()
            model(batch, noise_seed=1).loss.backward()
    for (name, a), b in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), name
    assert "weight" not in models[1].encoder.conv1.__dict__
