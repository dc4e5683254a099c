"""Fixtures and helpers for tests that start the launcher and the commands as real processes."""

import json
import os
import subprocess
import sys

import pytest
import torch
from helpers.connected_ranks import train_on_forks
from helpers.running_job import ENVIRONMENT, ROOT
from helpers.small_shards import write_small_shards

from md2dist.distributed.world import find_free_port

SMALL = ["data.height=64", "data.width=64", "network.weights=scratch", "optim.micro_batch_size=2",
         "log.every_steps=1", "log.pictures_every_steps=0", "data.num_workers=1",
         "data.window_shards=2", "precision.dtype=fp32"]  # fmt: skip


@pytest.fixture(scope="session")
def small_shards(tmp_path_factory):
    """Twelve mono+stereo samples of noise at 64x64, with ground truth."""
    folder = tmp_path_factory.mktemp("shards")
    return write_small_shards(folder, 12, height=64, width=64, ground_truth="velodyne")


@pytest.fixture(scope="session")
def long_shards(tmp_path_factory):
    """Shards of the same kind, enough for an epoch of 100 steps on two ranks."""
    folder = tmp_path_factory.mktemp("long_shards")
    return write_small_shards(folder, 400, height=64, width=64, samples_per_shard=40)


@pytest.fixture
def run_training(small_shards, tmp_path):
    """Runs launch/train.py on the small shards; returns the finished process and the run folder."""

    def run(name, *words, num_ranks=1, expected_code=0):
        run_dir = tmp_path / name
        launcher = [sys.executable]
        if num_ranks > 1:
            launcher = ["deepspeed", "-q", "--num_gpus", num_ranks]
            launcher += ["--master_port", find_free_port()]
        command = [*launcher, "launch/train.py", "--config"]
        process = run_command([*command, *training_words(small_shards, run_dir), *words])
        assert process.returncode == expected_code, process.stdout + process.stderr
        return process, run_dir

    return run


@pytest.fixture
def train(small_shards, tmp_path):
    """Trains on the small shards, without a launcher and its imports; returns the run folder."""

    def train(name, *words, num_ranks=1):
        run_dir, output = tmp_path / name, tmp_path / f"{name}.txt"
        words = ["--config", *training_words(small_shards, run_dir), *words]
        code = train_on_forks(words, num_ranks, output, {**os.environ, **ENVIRONMENT})
        assert code == 0, output.read_text()
        return run_dir

    return train


@pytest.fixture(scope="session")
def two_rank_run(long_shards, tmp_path_factory):
    """Run folder of three steps on two ranks of one node, the reference for other launchers."""
    run_dir = tmp_path_factory.mktemp("two_ranks")
    launcher = ["deepspeed", "--num_gpus", "2", "--master_port", find_free_port()]
    words = [*training_words(long_shards, run_dir), "optim.max_steps=3"]
    process = run_command([*launcher, "launch/train.py", "--config", *words])
    assert process.returncode == 0, process.stdout + process.stderr
    return run_dir


def training_words(shards, run_dir):
    """Arguments after `launch/train.py --config` of a training on small shards."""
    folders = [f"data.train_shards={shards}", f"log.run_dir={run_dir}"]
    return ["configs/mono_stereo.yaml", *SMALL, *folders]


def skip_outside_ci(reason):
    """Skips a test whose requirements are missing; in CI, which has all, the test fails."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def run_command(command, **environment):
    """Runs a command in the project's folder, with one thread per process and W&B disabled."""
    return subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def read_metrics(run_dir, key="train/loss"):
    """Returns the values of one metric by step."""
    lines = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line[key] for line in lines if key in line}


def read_state(run_dir):
    """Loads weights, buffers and optimizer state of the newest checkpoint."""
    latest = (run_dir / "checkpoints" / "latest").read_text().strip()
    path = run_dir / "checkpoints" / latest / "mp_rank_00_model_states.pt"
    return torch.load(path, weights_only=True)


def assert_same_state(first, second):
    """Asserts that two checkpoints hold bit-identical weights, buffers and optimizer moments."""
    assert first["module"].keys() == second["module"].keys()
    for name, value in first["module"].items():
        assert torch.equal(value, second["module"][name]), name
    for number, moments in first["optimizer"]["state"].items():
        for name, value in moments.items():
            assert torch.equal(value, second["optimizer"]["state"][number][name]), (number, name)
