"""The model as a GPU runs it, with few kernels, against the way of a CPU: both run on the CPU."""

from contextlib import nullcontext
from copy import deepcopy

import pytest
import torch
from test_model import make_batch, make_model

from md2dist.kernel_style import few_kernels_everywhere
from md2dist.networks.buckets import fill_buckets
from md2dist.networks.resnet import ResNetEncoder


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


@pytest.mark.parametrize("num_groups", [1, 2, 3])
def test_gradients_of_joined_groups_are_the_sums_of_those_of_each_group(num_groups):
    joined = ResNetEncoder(18, num_groups=num_groups).double()
    alone = deepcopy(joined)
    images = torch.rand(2 * num_groups, 3, 32, 64, dtype=torch.float64)
    with few_kernels_everywhere():
        joined(images)[-1].square().sum().backward()
    for group in images.chunk(num_groups):
        alone(group)[-1].square().sum().backward()
    for (name, a), b in zip(joined.named_parameters(), alone.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-7, atol=1e-9), name
    assert all(getattr(x, "group_weights", None) is None for x in joined.modules())


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


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_gradients_of_most_buckets_are_there_before_those_of_the_first_layer(dtype):
    model = make_model(f"precision.dtype={dtype}")
    buckets = fill_buckets(model.parameters())
    missing = [len(bucket) for bucket in buckets]
    at_the_first_layer = []

    def note(index):
        missing[index] -= 1

    def watch(module, inputs, output):
        output.register_hook(lambda gradient: at_the_first_layer.append(list(missing)))

    for index, bucket in enumerate(buckets):
        for parameter in bucket:
            parameter.register_post_accumulate_grad_hook(lambda _, i=index: note(i))
    model.encoder.conv1.register_forward_hook(watch)
    with few_kernels_everywhere():
        model(make_batch(), noise_seed=1).loss.backward()
    *most, last = at_the_first_layer[0]
    assert len(most) >= 3
    assert most == [0] * len(most)
    assert last > 0
    assert missing == [0] * len(buckets)
