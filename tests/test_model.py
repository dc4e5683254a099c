import pytest
import torch
from helpers.device import current_device
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from md2dist.config import load_config
from md2dist.errors import ConfigError, ShapeError
from md2dist.geometry import warp
from md2dist.geometry.pose import build_transform
from md2dist.model import MonodepthModel
from md2dist.records import Batch

HEIGHT, WIDTH = 64, 96
SMALL = [f"data.height={HEIGHT}", f"data.width={WIDTH}", "precision.dtype=fp32"]
POSE_TYPES = ["separate_resnet", "shared", "posecnn"]
STEREO = ["data.frame_offsets=[]", "data.use_stereo=true"]


def make_model(*overrides, seed=0):
    torch.manual_seed(seed)
    model = MonodepthModel.from_config(load_config([], [*SMALL, *overrides]))
    return model.to(current_device())


def make_batch(num_sources=2, num=2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)

    def rand(*shape):
        return torch.rand(*shape, 3, HEIGHT, WIDTH, dtype=dtype, generator=generator)

    K = torch.tensor([[0.58 * WIDTH, 0, 0.5 * WIDTH], [0, 1.92 * HEIGHT, 0.5 * HEIGHT], [0, 0, 1]])
    T_stereo = torch.eye(4).repeat(num, 1, 1)
    T_stereo[:, 0, 3] = -0.1
    return Batch(
        rand(num),
        rand(num),
        rand(num, num_sources),
        rand(num, num_sources),
        K.to(dtype).expand(num, 3, 3),
        T_stereo.to(dtype),
        torch.arange(num),
    )


@pytest.mark.parametrize(
    ("overrides", "num_sources", "networks"),
    [
        ([], 2, {"encoder", "depth", "pose_encoder", "pose"}),
        (STEREO, 1, {"encoder", "depth"}),
        (["data.use_stereo=true"], 3, {"encoder", "depth", "pose_encoder", "pose"}),
        (
            ["loss.use_auto_mask=false", "loss.use_predictive_mask=true"],
            2,
            {"encoder", "depth", "pose_encoder", "pose", "mask"},
        ),
        (["data.use_stereo=true", "network.pose_type=shared"], 3, {"encoder", "depth", "pose"}),
        (["data.use_stereo=true", "network.pose_type=posecnn"], 3, {"encoder", "depth", "pose"}),
        (["data.frame_offsets=[-3,-1,1,2]"], 4, {"encoder", "depth", "pose_encoder", "pose"}),
    ],
    ids=["mono", "stereo", "mono+stereo", "predictive mask", *POSE_TYPES[1:], "four neighbours"],
)
def test_each_mode_has_its_networks_its_shapes_and_a_gradient_everywhere(
    overrides, num_sources, networks
):
    model = make_model(*overrides)
    assert {name for name, _ in model.named_children()} == networks
    output = model(make_batch(num_sources))
    assert output.T_source_target.shape == (2, num_sources, 4, 4)
    assert output.warped.shape == (2, num_sources, 3, HEIGHT, WIDTH)
    assert output.auto_mask.shape == (2, HEIGHT, WIDTH)
    sizes = [tuple(disparity.shape[1:]) for disparity in output.disparities]
    assert sizes == [(1, HEIGHT >> scale, WIDTH >> scale) for scale in range(4)]
    assert torch.equal(output.loss.detach(), output.scale_losses.mean())
    output.loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("pose_type", POSE_TYPES)
def test_the_stereo_transform_comes_last_and_is_the_batchs(pose_type):
    output = make_model("data.use_stereo=true", f"network.pose_type={pose_type}")(make_batch(3))
    assert torch.equal(output.T_source_target[:, 2], make_batch(3).T_stereo)


def test_the_networks_see_the_augmented_images_and_the_loss_the_plain_ones():
    model, batch = make_model("loss.tie_noise=0").eval(), make_batch()
    plain = model(batch)
    other_target = model(batch._replace(target=batch.target.flip(-1)))
    assert torch.equal(other_target.disparities[0], plain.disparities[0])
    assert torch.equal(other_target.T_source_target, plain.T_source_target)
    assert not torch.equal(other_target.loss, plain.loss)
    other_aug = model(batch._replace(target_aug=batch.target_aug.flip(-1)))
    assert not torch.equal(other_aug.disparities[0], plain.disparities[0])


@pytest.mark.parametrize("pose_type", POSE_TYPES[:2])
def test_pairs_are_seen_in_temporal_order_and_negative_offsets_are_inverted(pose_type):
    model = make_model("data.frame_offsets=[-2,1]", f"network.pose_type={pose_type}").eval()
    batch = make_batch()
    T = model(batch).T_source_target
    before, after = batch.sources_aug.unbind(1)
    target_from_before = model.predict_transform(before, batch.target_aug)
    assert torch.allclose(T[:, 0] @ target_from_before, torch.eye(4).expand(2, 4, 4), atol=1e-6)
    expected = model.predict_transform(batch.target_aug, after)
    assert torch.allclose(T[:, 1], expected, rtol=0, atol=1e-7)


def test_the_translations_of_posecnn_are_in_units_of_the_mean_depth_of_the_earlier_frame():
    model, batch = make_model("network.pose_type=posecnn").eval(), make_batch()
    T = model.predict_transform(batch.target, batch.sources[:, 0])
    pair = torch.cat((batch.target, batch.sources[:, 0]), 1)
    axis_angle, translation = model.pose(pair)
    inverse_depth = model.predict_scaled_disparity(batch.target).mean(dim=(1, 2, 3))
    expected = build_transform(axis_angle, translation * inverse_depth[:, None])
    assert torch.allclose(T, expected, rtol=1e-5, atol=1e-8)


def test_a_shared_encoder_sees_all_frames_together():
    model, batch = make_model("network.pose_type=shared"), make_batch()
    output = model(batch)
    assert model.encoder.bn1.num_batches_tracked == 1
    model.train()
    frames = torch.cat((batch.target_aug, *batch.sources_aug.unbind(1)))
    features = model.encoder(frames)
    target, _, after = features[-1].chunk(3)
    expected = build_transform(*model.pose(target, after))
    assert torch.allclose(output.T_source_target[:, 1], expected, atol=1e-6)
    expected = model.depth([feature[: len(batch.target)] for feature in features])[0]
    assert torch.allclose(output.disparities[0], expected, atol=1e-5)


def test_the_pose_encoder_may_have_another_depth():
    model = make_model("network.num_layers=18", "network.pose_num_layers=34")
    assert (model.encoder.num_layers, model.pose_encoder.num_layers) == (18, 34)
    assert make_model("network.num_layers=34").pose_encoder.num_layers == 34


def test_of_a_frame_and_itself_past_and_future_motion_are_inverse():
    model, batch = make_model().eval(), make_batch(num=1)
    still = batch._replace(sources_aug=torch.stack((batch.target_aug, batch.target_aug), 1))
    from_past, from_future = model(still).T_source_target[0]
    assert torch.allclose(from_past @ from_future, torch.eye(4), atol=1e-6)


def test_the_pose_encoder_takes_the_statistics_of_each_neighbour_by_itself():
    model, batch = make_model(), make_batch()
    model(batch)
    assert model.encoder.bn1.num_batches_tracked == 1
    assert model.pose_encoder.bn1.num_batches_tracked == 2


def test_predicted_transforms_are_those_of_the_pose_network():
    model, batch = make_model().eval(), make_batch()
    pair = torch.cat((batch.target, batch.sources[:, 0]), 1)
    expected = build_transform(*model.pose(model.pose_encoder(pair)[-1]))
    predicted = model.predict_transform(batch.target, batch.sources[:, 0])
    assert torch.allclose(predicted, expected, atol=1e-7)
    assert not predicted.requires_grad


def test_scaled_disparity_lies_between_the_inverse_depths():
    model = make_model("loss.min_depth=0.5", "loss.max_depth=50", "precision.dtype=bf16").eval()
    scaled = model.predict_scaled_disparity(make_batch().target)
    assert scaled.shape == (2, 1, HEIGHT, WIDTH)
    assert scaled.dtype == torch.float32
    assert not scaled.requires_grad
    assert ((scaled > 1 / 50) & (scaled < 1 / 0.5)).all()


def test_the_same_seed_gives_the_same_noise_and_another_seed_another():
    model, batch = make_model("loss.tie_noise=0.1", "network.freeze_batchnorm=true"), make_batch()
    first, again, other = (model(batch, noise_seed=seed).loss for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(model(batch).loss, model(batch).loss)  # the default generator advances


def test_noise_is_drawn_in_training_mode_alone():
    model, batch = make_model("loss.tie_noise=0.1", "network.freeze_batchnorm=true"), make_batch()
    silent = make_model("loss.tie_noise=0", "network.freeze_batchnorm=true")
    assert not torch.equal(model(batch, 0).loss, silent(batch, 0).loss)
    assert torch.equal(model.eval()(batch, 0).loss, silent.eval()(batch, 0).loss)


def test_frozen_batch_norm_stays_frozen_while_the_rest_trains():
    model, batch = make_model("network.freeze_batchnorm=true"), make_batch()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    for _ in range(2):  # as built, and after the switch back from evaluation
        assert model.training
        model(batch)
        assert all(torch.equal(before[name], buffer) for name, buffer in model.named_buffers())
        model.eval().train()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert not any(norm.training for norm in norms)


@pytest.mark.parametrize(("name", "half"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_in_half_precision_all_convolutions_are_half_but_the_last_of_each_network(name, half):
    model = make_model(f"precision.dtype={name}", "data.use_stereo=true")
    seen = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda m, _, out, name=name: seen.update({name: out.dtype})
            )
    output = model(make_batch(3, num=1))
    heads = {name for name in seen if name.startswith("depth.heads.") or name == "pose.head"}
    assert len(heads) == 5
    for name, dtype in seen.items():
        assert dtype == (torch.float32 if name in heads else half), name
    assert output.loss.dtype == output.warped.dtype == torch.float32
    output.loss.backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters())


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_images_reach_the_networks_in_the_order_that_suits_their_type(name, device):
    is_planar = name == "fp32" and device.type == "cpu"
    memory_format = torch.contiguous_format if is_planar else torch.channels_last
    model = make_model(f"precision.dtype={name}")
    seen = []
    for encoder in model.encoders():
        encoder.conv1.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    model(make_batch())
    assert len(seen) == (3 if device.type == "cpu" else 2)  # pairs together on a GPU
    assert all(images.is_contiguous(memory_format=memory_format) for images in seen)


class NoWaiting(TorchDispatchMode):
    """Refuses the operations whose result the host reads, for which a GPU would be waited for."""

    REFUSED = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in self.REFUSED, name
        if name.startswith("index"):
            assert all(index is None or index.dtype == torch.int64 for index in args[1]), name
        return func(*args, **(kwargs or {}))


def test_nothing_in_a_training_step_makes_the_host_wait(monkeypatch):
    monkeypatch.setattr(warp, "crashes_on_cpu", lambda coordinates: False)  # as on a GPU
    model = make_model("precision.dtype=bf16", "data.use_stereo=true")
    batch = make_batch(3)
    with NoWaiting():
        model(batch, noise_seed=1).loss.backward()
        with pytest.raises(AssertionError):
            batch.K.sum().item()
        with pytest.raises(AssertionError):
            batch.K[batch.K > 0]


def test_half_precision_batches_are_raised_before_the_loss():
    model, batch = make_model(), make_batch()
    half = Batch(*(x.bfloat16() if x.is_floating_point() else x for x in batch))
    assert model(half).loss.dtype == torch.float32


def test_a_double_model_computes_in_double_throughout_whatever_the_precision_says():
    model = make_model("precision.dtype=bf16").double()
    output = model(make_batch(dtype=torch.float64))
    assert {x.dtype for x in (output.loss, *output.disparities, *output[3:5])} == {torch.float64}


def test_auto_mask_is_all_true_where_it_is_off():
    output = make_model("loss.use_auto_mask=false")(make_batch())
    assert output.auto_mask.dtype == torch.bool
    assert output.auto_mask.all()


def test_a_missing_source_is_named():
    with pytest.raises(ShapeError, match=r"batch\.sources .*S=2"):
        make_model()(make_batch(num_sources=1))


def test_a_stereo_model_says_that_it_predicts_no_motion():
    images = make_batch(1).target
    with pytest.raises(ConfigError, match="no motion"):
        make_model(*STEREO).predict_transform(images, images)


def test_images_of_another_size_are_refused():
    images = torch.rand(1, 3, HEIGHT, WIDTH + 32)
    with pytest.raises(ShapeError, match="images"):
        make_model().predict_scaled_disparity(images)
    with pytest.raises(ShapeError, match="second"):
        make_model().predict_transform(images[..., :WIDTH], images)
