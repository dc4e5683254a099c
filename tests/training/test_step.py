import os
from itertools import product
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from helpers.connected_ranks import run_ranks
from torch import nn

from md2dist.config import OptimConfig, load_config
from md2dist.data.loading.augment import augment, draw_augmentation
from md2dist.distributed.world import World
from md2dist.records import FrameBatch, StepOutput
from md2dist.training.batch_plan import BatchPlan
from md2dist.training.deepspeed_config import make_deepspeed_config
from md2dist.training.engine import make_engine, make_optimizer
from md2dist.training.gradient_guard import GradientGuard
from md2dist.training.reporter import Reporter
from md2dist.training.step import TrainingStep

CPU = torch.device("cpu")
PLAN = BatchPlan(16, 8, 2)


class TinyModel(nn.Module):
    """One convolution in place of the networks; remembers what it was called with."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.conv1 = nn.Conv2d(3, 1, 1, bias=False)
        self.batches, self.noise_seeds = [], []

    def encoders(self):
        return [self.encoder]

    def forward(self, batch, noise_seed):
        self.batches.append(batch)
        self.noise_seeds.append(noise_seed)
        # Gradients of very different sizes, nearly all of norms far above 1.
        loss = (self.encoder.conv1(batch.target_aug).mean((1, 2, 3)) * batch.sample_id).mean()
        return StepOutput(loss, loss[None], (), *[torch.empty(0)] * 3)


class PlainEngine:
    """The part of DeepSpeed's engine that a training step uses, with plain gradient descent."""

    def __init__(self, module, num_accum):
        self.module, self._num_accum, self._num_calls = module, num_accum, 0
        self.optimizer = torch.optim.SGD(module.parameters(), lr=1.0, fused=True)

    def __call__(self, batch, noise_seed):
        return self.module(batch, noise_seed)

    def backward(self, loss):
        (loss / self._num_accum).backward()

    def step(self):
        self._num_calls += 1
        if self._num_calls % self._num_accum == 0:
            self.optimizer.step()
            self.gradient = self.module.encoder.conv1.weight.grad.clone()
            self.optimizer.zero_grad()


@pytest.fixture
def alone():
    """A group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def make_step(*words, rank=0, world_size=1, num_accum=2):
    config = load_config([], words)
    engine = PlainEngine(TinyModel(), num_accum)
    plan = BatchPlan(8 * num_accum * world_size, 8, num_accum)
    guard = GradientGuard(engine.optimizer, CPU)
    return TrainingStep(engine, guard, config, plan, World(rank, 0, world_size, CPU), 10)


def make_frames(seed=0):
    """Eight random mono+stereo samples."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(256, (8, 4, 8, 8, 3), dtype=torch.uint8, generator=generator)
    K, eye = torch.rand(8, 3, 3, generator=generator), torch.eye(4).repeat(8, 1, 1)
    sample_id = torch.randint(10**6, (8,), generator=generator)
    return FrameBatch(frames, K, eye + 0.1, sample_id)


def test_the_weights_move_by_the_rate_of_the_schedule_which_the_step_reports(alone):
    words = ["optim.lr=0.5", "optim.lr_drop_epoch=3", "optim.lr_drop_factor=0.2"]
    take_step = make_step(*words, "optim.warmup_steps=2")
    weight = take_step.engine.module.encoder.conv1.weight
    for epoch, step, rate in ((0, 0, 0.25), (2, 7, 0.5), (3, 8, 0.1)):
        before = weight.detach().clone()
        result = take_step([make_frames(0), make_frames(1)], epoch, step)
        assert take_step.engine.optimizer.param_groups[0]["lr"] == pytest.approx(rate)
        assert result.learning_rate == pytest.approx(rate)
        torch.testing.assert_close(weight.detach(), before - rate * take_step.engine.gradient)


class Lines(list):
    """A run log that keeps its lines."""

    def log(self, metrics, step):
        self.append((step, metrics))

    def advance(self, step):
        pass


def test_the_log_tells_the_rate_that_the_optimizer_used(alone):
    take_step, lines = make_step("optim.lr=0.5"), Lines()
    config = load_config([], ["log.every_steps=1", "log.pictures_every_steps=0", "optim.lr=7"])
    report = Reporter(lines, config, PLAN, World(0, 0, 1, CPU))
    for num_done, epoch in ((1, 0), (2, 99)):
        report.after_step(num_done, epoch, take_step([make_frames()] * 2, epoch, num_done - 1))
    report.flush(2, 99)
    assert [(step, metrics["train/lr"]) for step, metrics in lines] == [
        (1, 0.5),
        (2, pytest.approx(0.05)),
    ]


@pytest.mark.parametrize(("use_flip", "use_color_jitter"), product((False, True), (False, True)))
def test_the_model_sees_the_augmentation_of_seed_epoch_and_switches(
    alone, use_flip, use_color_jitter
):
    words = [f"data.use_flip={use_flip}", f"data.use_color_jitter={use_color_jitter}", "seed=5"]
    take_step = make_step(*words, "data.use_true_intrinsics=true")
    micro_batches = [make_frames(0), make_frames(1)]
    for epoch in (0, 3):
        seen = take_step.engine.module.batches
        seen.clear()
        result = take_step(micro_batches, epoch, 7)
        assert result.batch is seen[-1]
        for frames, batch in zip(micro_batches, seen, strict=True):
            switches = {"use_flip": use_flip, "use_color_jitter": use_color_jitter}
            draw = draw_augmentation(5, epoch, frames.sample_id.tolist(), **switches)
            assert any(draw.is_flipped) == use_flip
            assert any(draw.jitters) == use_color_jitter
            expected = augment(frames, draw, use_true_intrinsics=True)
            for name, value in expected._asdict().items():
                assert torch.equal(getattr(batch, name), value), name


def noise_seeds(*words, **place):
    """The seeds of two steps, one for each micro-batch."""
    take_step = make_step(*words, **place)
    for step in (0, 1):
        take_step([make_frames()] * place.get("num_accum", 2), 0, step)
    return take_step.engine.module.noise_seeds


def test_every_micro_batch_of_every_step_and_rank_has_noise_of_its_own(alone):
    seeds = [noise_seeds(rank=rank, world_size=2) for rank in (0, 1)]
    assert len({*seeds[0], *seeds[1], *noise_seeds("seed=1")}) == 4 + 4 + 4
    assert all(0 <= seed < 2**63 for seed in seeds[0] + seeds[1])


def test_the_noise_of_a_micro_batch_is_the_same_on_any_number_of_ranks(alone):
    by_rank = [noise_seeds(rank=rank, world_size=2) for rank in (0, 1)]
    alone_for_all = noise_seeds(num_accum=4)
    for step in (0, 1):
        of_ranks = [seeds[2 * step + accum] for accum in (0, 1) for seeds in by_rank]
        assert alone_for_all[4 * step : 4 * step + 4] == of_ranks


def count_accelerator_calls(world):
    """Devices that DeepSpeed takes, and its waits for the device in four steps."""
    os.environ["LOCAL_RANK"] = "3"
    config, accelerator = load_config([]), get_accelerator()
    with patch.object(accelerator, "set_device") as set_device:
        engine, guard = make_engine(TinyModel(), config, PLAN, world)
    take_step = TrainingStep(engine, guard, config, PLAN, world, 10)
    with patch.object(accelerator, "synchronize") as synchronize:
        for step in range(4):
            take_step([make_frames()] * PLAN.grad_accum_steps, 0, step)
    return [call.args for call in set_device.call_args_list], synchronize.call_count


@pytest.mark.slow
def test_deepspeed_takes_the_device_of_the_rank_and_never_waits_for_it():
    ((devices, num_waits),) = run_ranks(count_accelerator_calls, 1)
    assert set(devices) == {(0,)}
    assert num_waits == 0


@pytest.mark.parametrize(
    ("decay", "reference"), [(0.0, torch.optim.Adam), (0.1, torch.optim.AdamW)]
)
def test_weight_decay_is_that_of_adamw_and_without_it_the_optimizer_is_adam(decay, reference):
    models, optimizers = (TinyModel(), TinyModel()), []
    models[1].load_state_dict(models[0].state_dict())
    optimizers.append(make_optimizer(models[0], OptimConfig(weight_decay=decay)))
    optimizers.append(
        reference(models[1].parameters(), lr=OptimConfig.lr, weight_decay=decay, fused=True)
    )
    for _ in range(3):
        for model, optimizer in zip(models, optimizers, strict=True):
            for weight in model.parameters():
                weight.grad = torch.full_like(weight, 0.3)
            optimizer.step()
    assert all(map(torch.equal, models[0].parameters(), models[1].parameters()))
    assert optimizers[0].state_dict()["param_groups"] == optimizers[1].state_dict()["param_groups"]


@pytest.mark.parametrize("zero_stage", [0, 1, 2])
def test_deepspeed_is_told_not_to_clip(zero_stage):
    assert make_deepspeed_config(PLAN, zero_stage)["gradient_clipping"] == 0


def take_large_steps(world, zero_stage, decay):
    """Three steps of the real engine, and the same with torch's Adam alone: norms and weights."""
    words = [f"deepspeed.zero_stage={zero_stage}", f"optim.weight_decay={decay}"]
    config = load_config([], ["optim.lr=0.01", *words])
    model, plain = TinyModel(), TinyModel()
    plain.load_state_dict(model.state_dict())
    engine, guard = make_engine(model, config, PLAN, world)
    take_step = TrainingStep(engine, guard, config, PLAN, world, 10)
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.01)
    if decay:
        optimizer = torch.optim.AdamW(plain.parameters(), lr=0.01, weight_decay=decay)
    norms = []
    for step in range(3):
        parts = [make_frames(2 * step), make_frames(2 * step + 1)]
        parts = [part._replace(sample_id=part.sample_id // 10 ** (2 * step)) for part in parts]
        logged = float(take_step(parts, 0, step).gradient_norm)
        optimizer.zero_grad()
        for batch in model.batches[-2:]:
            (plain(batch, 0).loss / 2).backward()
        norms.append((logged, float(plain.encoder.conv1.weight.grad.norm())))
        optimizer.step()
    weights = [network.encoder.conv1.weight.flatten().tolist() for network in (model, plain)]
    return norms, *weights


def take_large_steps_at_each_stage(world):
    return [take_large_steps(world, *case) for case in product((0, 1, 2), (0.0, 2.0))]


@pytest.mark.slow
def test_gradients_of_any_size_move_the_weights_as_torchs_adam_does():
    (stages,) = run_ranks(take_large_steps_at_each_stage, 1)
    for norms, weights, expected in stages:
        logged, large = zip(*norms, strict=True)
        assert large[0] > 30 * large[1] > 900 * large[2] > 900 * 10
        assert logged == pytest.approx(large, rel=1e-5)
        assert weights == pytest.approx(expected, rel=1e-5)
