import os
import time
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from helpers.connected_ranks import run_ranks
from test_srun import SECOND_NODE
from torch import nn
from torch.distributed import TCPStore

from md2dist.distributed.agreement import check_agreement, exit_on_all_ranks
from md2dist.distributed.channel import Channel, connect_store
from md2dist.distributed.devices import has_unusable_gpu
from md2dist.distributed.failure import Failure
from md2dist.distributed.launcher import read_launch
from md2dist.distributed.world import (
    World,
    barrier,
    init_distributed,
    read_world,
    shutdown_distributed,
    sum_over_ranks,
)
from md2dist.errors import ConfigError, ShardError
from md2dist.training.running_statistics import RunningStatistics


@pytest.fixture
def no_launcher():
    """No variables of a launcher; those that the test sets, even by our code, go with it."""
    others = {name: os.environ[name] for name in os.environ if not is_of_launcher(name)}
    with patch.dict(os.environ, others, clear=True):
        yield


def is_of_launcher(name):
    return "RANK" in name or "WORLD_SIZE" in name or name.startswith(("MASTER_", "SLURM_"))


@pytest.mark.usefixtures("no_launcher")
def test_without_a_launcher_a_process_is_alone():
    assert read_world()[:3] == (0, 0, 1)
    tensor = torch.tensor([1.0])
    assert sum_over_ranks(tensor) is tensor


@pytest.mark.parametrize(
    ("hidden", "device", "expected"),
    [(None, "cpu", True), ("0", "cpu", True), ("", "cpu", False), (None, "cuda", False)],
)
def test_a_gpu_that_torch_does_not_find_is_missed(monkeypatch, hidden, device, expected):
    monkeypatch.setattr(Path, "exists", lambda path: str(path) == "/dev/nvidiactl")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert has_unusable_gpu(torch.device(device)) is expected
    monkeypatch.setattr(Path, "exists", lambda path: False)
    assert not has_unusable_gpu(torch.device(device))


def announce_failure():
    """Announces a failure; returns whether there was one before, and this rank's place in a count.

    The places of ranks that share one store differ.
    """
    channel = Channel.connect(timeout_s=10)
    found = channel.failure() is not None
    barrier()
    channel.announce_failure(Failure("out of memory"))
    return found, connect_store("count", timeout_s=10).add("ranks", 1)


def meet_again_in_the_same_store(world):
    shutdown_distributed()
    port = int(os.environ["MASTER_PORT"]) + 1
    os.environ.update(MASTER_PORT=str(port), TORCHELASTIC_USE_AGENT_STORE="True")
    launcher = TCPStore("127.0.0.1", port, is_master=True) if world.is_main else None
    is_announced = []
    for attempt in range(2):
        if attempt and world.is_main:
            time.sleep(1)  # the others find the meeting of the first start
        init_distributed()
        is_announced.append(announce_failure()[0])
        shutdown_distributed()
    del launcher
    return is_announced


def meet_as_torchrun_counts(world):
    shutdown_distributed()
    os.environ["MASTER_PORT"] = str(int(os.environ["MASTER_PORT"]) + 1)
    # It counts a restart on the node whose worker died, and none where all were well.
    os.environ["TORCHELASTIC_RESTART_COUNT"] = str(world.rank)
    init_distributed()
    return announce_failure()


@pytest.mark.slow
def test_restarted_processes_do_not_see_the_keys_of_the_start_before():
    assert run_ranks(meet_again_in_the_same_store) == [[False, False], [False, False]]


@pytest.mark.slow
def test_ranks_share_one_store_whatever_their_launchers_count():
    assert sorted(run_ranks(meet_as_torchrun_counts)) == [(False, 1), (False, 2)]


@pytest.mark.usefixtures("no_launcher")
def test_the_variables_of_srun_are_read_and_those_of_a_launcher_win(monkeypatch):
    for name, value in SECOND_NODE.items():
        monkeypatch.setenv(name, value)
    launched = {"RANK": "2", "LOCAL_RANK": "0", "WORLD_SIZE": "8"}
    for name, value in (launched | {"MASTER_ADDR": "node9", "MASTER_PORT": "7"}).items():
        monkeypatch.setenv(name, value)
    assert read_world()[:3] == (2, 0, 8)
    for name in (*launched, "MASTER_ADDR"):
        monkeypatch.delenv(name)
    assert read_world()[:3] == (4, 1, 5)
    assert read_launch(os.environ)[4:6] == ("node03", 7)


def test_alone_an_error_is_raised_as_it_is():
    error = ShardError("gone")
    with (
        pytest.raises(ShardError) as caught,
        exit_on_all_ranks(World(0, 0, 1, torch.device("cpu"))),
    ):
        raise error
    assert caught.value is error


def fail_on_rank_one(world):
    with exit_on_all_ranks(world):
        if world.rank == 1:
            raise ShardError("shard 7 is gone")
    return "continued"


def fail_everywhere(world):
    with exit_on_all_ranks(world):
        raise ShardError("no such key")


def succeed_everywhere(world):
    with exit_on_all_ranks(world):
        pass
    return float(sum_over_ranks(torch.tensor(float(world.rank + 1))))


def find_other_shards(world):
    with exit_on_all_ranks(world):
        check_agreement(
            world, "use the same shards", first_step=7, train_shards="abc" if world.rank else "def"
        )


@pytest.mark.slow
def test_an_error_on_one_rank_ends_all_and_is_reported_once(capfd):
    assert run_ranks(fail_on_rank_one) == ["exit 2", "exit 2"]
    assert capfd.readouterr().err.count("error: rank 1: shard 7 is gone") == 1
    assert run_ranks(fail_everywhere) == ["exit 2", "exit 2"]
    assert capfd.readouterr().err.count("error: no such key\n") == 1
    assert run_ranks(succeed_everywhere) == [3.0, 3.0]


@pytest.mark.slow
def test_ranks_that_found_different_things_end_together(capfd):
    assert run_ranks(find_other_shards) == ["exit 2", "exit 2"]
    error = capfd.readouterr().err
    assert "disagree on train_shards: rank 0 has def, rank 1 has abc; use the same shards" in error
    assert "first_step" not in error


@pytest.mark.usefixtures("no_launcher")
def test_srun_without_a_master_address_is_refused(monkeypatch):
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(ConfigError, match="MASTER_ADDR"):
        init_distributed()


def train_apart(world):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)
    )
    keys = list(model.state_dict())
    statistics = RunningStatistics(model)
    torch.manual_seed(world.rank + 1)
    model(torch.randn(4, 1, 5, 5))
    before = {name: value.clone() for name, value in model.named_buffers()}
    statistics.average()
    assert list(model.state_dict()) == keys
    return before, dict(model.named_buffers())


def break_the_statistics(world):
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm2d(2))
    statistics = RunningStatistics(model)
    model(torch.randn(4, 2, 3, 3))
    statistics.average()
    before = {name: value.clone() for name, value in model.named_buffers()}
    model(torch.full((4, 2, 3, 3), float("inf") if world.rank else 1.0))
    statistics.average()
    return before, dict(model.named_buffers())


@pytest.mark.slow
def test_a_bad_activation_on_one_rank_leaves_the_statistics_of_all_as_they_were():
    for before, after in run_ranks(break_the_statistics):
        for name in ("0.running_mean", "0.running_var"):
            assert torch.isfinite(after[name]).all()
            assert torch.equal(before[name], after[name])


@pytest.mark.slow
def test_running_statistics_become_the_mean_over_the_ranks():
    (first, after_first), (second, after_second) = run_ranks(train_apart)
    for name, value in first.items():
        if name.endswith("num_batches_tracked"):
            continue
        assert not torch.equal(value, second[name])
        torch.testing.assert_close(after_first[name], (value + second[name]) / 2)
        assert torch.equal(after_first[name], after_second[name])
