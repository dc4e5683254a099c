import time
from collections import Counter

import pytest
import torch.distributed as dist
from helpers.connected_ranks import run_rank_threads

from md2dist.distributed.host_group import HostGroup
from md2dist.distributed.step_barrier import StepBarrier


class Rank:
    """Step barrier of one rank of three, and what it knows of stop requests."""

    def __init__(self, store, rank):
        self.is_asked = False
        self.barrier = StepBarrier(HostGroup(store, rank, 3), lambda: self.is_asked)


def test_without_a_request_every_rank_takes_every_step_and_the_store_has_nothing_to_do():
    store = dist.HashStore()

    def task(rank):
        step_barrier = Rank(store, rank).barrier
        taken = [step_barrier.wait(0, has_data=True)]
        if rank == 0:
            for key in store.list_keys():
                store.delete_key(key)
        return taken + [step_barrier.wait(step, has_data=True) for step in range(1, 50)]

    assert run_rank_threads(task, 3) == [[True] * 50] * 3
    assert store.num_keys() == 0


def test_no_rank_begins_a_step_before_all_have_its_data():
    store, begun = dist.HashStore(), Counter()

    def task(rank):
        step_barrier = Rank(store, rank).barrier
        for step in range(2):
            if step == 1 and rank == 2:
                time.sleep(0.3)  # the others stand before the step by now, or have passed it
                assert begun[1] == 0
            assert step_barrier.wait(step, has_data=True)
            begun[step] += 1

    run_rank_threads(task, 3)
    assert begun == {0: 3, 1: 3}


@pytest.mark.parametrize("asking", [0, 2])
def test_all_ranks_stop_before_the_same_step(asking):
    store = dist.HashStore()

    def task(rank):
        this, step = Rank(store, rank), 7
        while this.barrier.wait(step, has_data=True):
            step += 1
            this.is_asked = rank == asking and step == 20
        return step

    assert run_rank_threads(task, 3) == [20, 20, 20]


def test_a_rank_that_waits_for_data_stops_the_others_where_it_stands():
    store = dist.HashStore()

    def task(rank):
        step_barrier = Rank(store, rank).barrier
        for step in range(10):
            if rank == 1 and step == 4:
                return step if not step_barrier.wait(step, has_data=False) else None
            if not step_barrier.wait(step, has_data=True):
                return step
        return None

    assert run_rank_threads(task, 3) == [4, 4, 4]
