from types import SimpleNamespace

import pytest
import torch
from helpers.small_shards import write_small_shards

from md2dist.config import load_config
from md2dist.distributed.topology import Topology
from md2dist.errors import MachineLimitError
from md2dist.model import MonodepthModel
from md2dist.training.setup import set_up_run
from md2dist.training.start.plan import (
    check_space,
    checkpoint_bytes,
    count_at_once,
    describe_plan,
    describe_rates,
    list_saves,
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return write_small_shards(folder, 14, height=64, width=96, ground_truth="velodyne")


def plan(shards, tmp_path, *words):
    config = load_config(
        [],
        [
            *(f"data.train_shards={shards}", f"log.run_dir={tmp_path / 'run'}", "data.height=64"),
            *("data.width=96", "data.use_stereo=true", "optim.micro_batch_size=2", *words),
        ],
    )
    return config, set_up_run(config, Topology(world_size=2))


def test_the_plan_names_samples_rates_and_checkpoints(shards, tmp_path):
    words = ["optim.num_epochs=20", "checkpoint.patience=3", f"data.val_shards={shards}"]
    config, setup = plan(shards, tmp_path, *words)
    model = torch.nn.Linear(1000, 1000)  # 1,001,000 weights, thrice in 4 bytes
    described = describe_plan(config, setup, model)
    assert described["samples"] == (
        "14 training samples; an epoch has 3 steps of 4 and leaves out 2"
    )
    assert described["steps"] == "0 to 60; the run has 20 epochs"
    assert described["rate"] == "0.0001 in epoch 0 to 14, 1e-05 in epoch 15 to 19"
    validations = f"after each epoch, on {shards.name} (14 images); 3 in a"
    assert described["validations"].startswith(validations)
    assert described["checkpoints"] == "20 of 12 MB each, up to 5 at a time: 60 MB"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["optim.warmup_steps=4"], "0.0001 in epoch 0 to 14, rising to it over 4 steps, 1e-05 in"),
        (["optim.lr_drop_every=8"], "0.0001 in epoch 0 to 7, 1e-05 in epoch 8 to 15, 1e-06 in"),
        (["optim.lr_batch_size=2"], "0.0002 in epoch 0 to 14, 2e-05 in epoch 15 to 19"),
        (["optim.max_steps=7"], "0.0001 in epoch 0 to 2"),
        (["optim.schedule=cosine"], "0.0001, falling along a cosine to 0 after step 60"),
    ],
)
def test_the_rate_is_that_of_the_schedule(shards, tmp_path, words, expected):
    assert describe_rates(*plan(shards, tmp_path, *words)).startswith(expected)


def test_saves_are_those_of_the_loop(shards, tmp_path):
    words = ["optim.max_steps=10", "checkpoint.every_steps=4", "checkpoint.keep=2"]
    config, setup = plan(shards, tmp_path, *words)
    assert list_saves(config, setup) == [3, 4, 6, 8, 9, 10]
    assert count_at_once(config, setup) == 3
    config, setup = plan(shards, tmp_path, *words, "checkpoint.validate_every_steps=5")
    assert list_saves(config, setup) == [3, 4, 5, 6, 8, 9, 10]
    config, setup = plan(shards, tmp_path, "optim.max_steps=2")
    assert (list_saves(config, setup), count_at_once(config, setup)) == ([2], 1)


def test_a_disk_without_room_for_a_checkpoint_is_refused_before_the_start(
    shards, tmp_path, monkeypatch
):
    config, setup = plan(shards, tmp_path)
    model = torch.nn.Linear(1000, 1000)

    def leave(num_bytes):
        usage = SimpleNamespace(free=num_bytes)
        monkeypatch.setattr("md2dist.machine_limits.shutil.disk_usage", lambda _: usage)

    leave(10**9)
    assert check_space(config, setup, model) == ""
    leave(20_000_000)
    advice = check_space(config, setup, model)
    assert "disk space for 4 checkpoints: 20 MB free at" in advice
    assert "48 MB needed" in advice
    assert advice.endswith("or lower checkpoint.keep")
    leave(1_000_000)
    with pytest.raises(MachineLimitError, match=r"a checkpoint: 1 MB free at .*, 12 MB needed"):
        check_space(config, setup, model)


def test_the_size_of_a_checkpoint_counts_weights_moments_and_buffers():
    model = MonodepthModel.from_config(load_config())
    weights = sum(weight.numel() for weight in model.parameters())
    assert checkpoint_bytes(model, 0) == pytest.approx(12 * weights, rel=0.001)
    assert checkpoint_bytes(model, 1) - checkpoint_bytes(model, 0) == 4 * weights
