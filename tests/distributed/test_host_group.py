import random
import weakref

import pytest
import torch.distributed as dist
from helpers.connected_ranks import run_rank_threads

from md2dist.distributed import host_group
from md2dist.distributed.host_group import HostGroup
from md2dist.distributed.topology import Topology


@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 8, 13])
def test_the_smallest_value_of_each_round_is_that_of_all_ranks(world_size):
    store, generator = dist.HashStore(), random.Random(world_size)
    values = [[[generator.randrange(-9, 9) for _ in range(3)] for _ in range(20)]
              for _ in range(world_size)]  # fmt: skip

    def task(rank):
        group = HostGroup(store, rank, world_size)
        return [group.minimum(values[rank][number]) for number in range(20)]

    expected = [
        [min(column) for column in zip(*(own[number] for own in values), strict=True)]
        for number in range(20)
    ]
    assert run_rank_threads(task, world_size) == [expected] * world_size


def test_a_rank_that_has_ended_is_an_error_of_gloo_for_those_that_wait_for_it():
    store = dist.HashStore()

    def task(rank):
        group = HostGroup(store, rank, 2)
        group.minimum([1])
        if rank == 0:
            return None
        with pytest.raises(RuntimeError, match="gloo"):
            group.minimum([1])
        return "raised"

    assert run_rank_threads(task, 2) == [None, "raised"]


def test_a_connected_group_lives_on_when_an_exception_has_left_it(monkeypatch):
    monkeypatch.setattr(host_group, "connect_store", lambda name, timeout_s: dist.HashStore())
    monkeypatch.setattr(host_group, "store_host", lambda: "127.0.0.1")
    monkeypatch.setattr(host_group, "_connected", [])
    assert weakref.ref(HostGroup.connect("steps", Topology()))() is not None
