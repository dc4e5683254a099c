import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import nn

from md2dist.errors import ConfigError, ShardError
from md2dist.training.batchnorm import RunningStatistics
from md2dist.training.world import (
    World,
    check_agreement,
    failing_together,
    join_world,
    leave_world,
    read_world,
    sum_over_ranks,
)

NAMES = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "SLURM_STEP_ID"]


@pytest.fixture
def no_launcher(monkeypatch):
    for name in [*os.environ]:
        if name in NAMES or name.startswith("SLURM_"):
            monkeypatch.delenv(name)


@pytest.mark.usefixtures("no_launcher")
def test_without_a_launcher_a_process_is_alone():
    assert read_world()[:3] == (0, 0, 1)
    tensor = torch.tensor([1.0])
    assert sum_over_ranks(tensor) is tensor


@pytest.mark.usefixtures("no_launcher")
def test_the_variables_of_srun_are_read_and_those_of_a_launcher_win(monkeypatch):
    for name, value in (("STEP_ID", 0), ("PROCID", 3), ("LOCALID", 1), ("NTASKS", 4)):
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert read_world()[:3] == (2, 0, 8)
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name)
    assert read_world()[:3] == (3, 1, 4)
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name)


def test_alone_an_error_is_raised_as_it_is():
    error = ShardError("gone")
    with (
        pytest.raises(ShardError) as caught,
        failing_together(World(0, 0, 1, torch.device("cpu"))),
    ):
        raise error
    assert caught.value is error


def run_rank(rank, world_size, port, task, results):
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), OMP_NUM_THREADS="1",
    )  # fmt: skip
    world = join_world()
    try:
        results[rank] = task(world)
    except SystemExit as end:
        results[rank] = f"exit {end.code}"
    except ValueError as error:
        results[rank] = f"{type(error).__name__}: {error}"
    finally:
        leave_world()


def run_ranks(task, world_size=2):
    """Runs a function of the world in that many connected processes; gives what each returned."""
    with torch.multiprocessing.get_context("spawn").Manager() as manager:
        results = manager.dict()
        port = dist.TCPStore("127.0.0.1", 0, is_master=True).port
        torch.multiprocessing.spawn(
            run_rank, (world_size, port + 1, task, results), nprocs=world_size
        )
        return [results[rank] for rank in range(world_size)]


def fail_on_rank_one(world):
    with failing_together(world):
        if world.rank == 1:
            raise ShardError("shard 7 is gone")
    return "went on"


def fail_everywhere(world):
    with failing_together(world):
        raise ShardError("no such key")


def go_on(world):
    with failing_together(world):
        pass
    return float(sum_over_ranks(torch.tensor(float(world.rank + 1))))


def find_other_shards(world):
    with failing_together(world):
        check_agreement(world, first_step=7, train_shards="abc" if world.rank else "def")


@pytest.mark.slow
def test_an_error_on_one_rank_ends_all_and_is_told_once(capfd):
    assert run_ranks(fail_on_rank_one) == ["exit 2", "exit 2"]
    assert capfd.readouterr().err.count("error: rank 1: shard 7 is gone") == 1
    assert run_ranks(fail_everywhere) == ["exit 2", "exit 2"]
    assert capfd.readouterr().err.count("error: no such key\n") == 1
    assert run_ranks(go_on) == [3.0, 3.0]


@pytest.mark.slow
def test_ranks_that_found_different_things_end_together(capfd):
    assert run_ranks(find_other_shards) == ["exit 2", "exit 2"]
    told = capfd.readouterr().err
    assert "disagree on train_shards: rank 0 has def, rank 1 has abc" in told
    assert "first_step" not in told


@pytest.mark.usefixtures("no_launcher")
def test_srun_without_a_meeting_place_is_told_so(monkeypatch):
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(ConfigError, match="MASTER_ADDR"):
        join_world()


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
