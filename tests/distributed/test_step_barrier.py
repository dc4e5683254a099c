import threading
import time
from collections import Counter

import pytest
import torch.distributed as dist

from md2dist.distributed.channel import Channel
from md2dist.distributed.step_barrier import StepBarrier


def run_ranks(task, world_size=3):
    """Runs task(rank) in a thread per rank; gives what each returned."""
    results = [None] * world_size

    def run(rank):
        results[rank] = task(rank)

    threads = [
        threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(world_size)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return results


def test_without_a_request_every_rank_takes_every_step_and_little_is_left_in_the_store():
    store = dist.HashStore()

    def task(rank):
        step_barrier = StepBarrier(Channel(store), world_size=3)
        return [step_barrier.wait(step, has_data=True) for step in range(50)]

    assert run_ranks(task) == [[True] * 50] * 3
    assert store.num_keys() <= 2


def test_nobody_begins_a_step_before_all_have_its_data():
    store, begun = dist.HashStore(), Counter()

    def task(rank):
        step_barrier = StepBarrier(Channel(store), world_size=3)
        for step in range(2):
            if step == 1 and rank == 2:
                time.sleep(0.3)  # the others stand before the step by now, or have passed it
                assert begun[1] == 0
            assert step_barrier.wait(step, has_data=True)
            begun[step] += 1

    run_ranks(task)
    assert begun == {0: 3, 1: 3}


@pytest.mark.parametrize("asking", [0, 2])
def test_all_ranks_stop_before_the_same_step(asking):
    store = dist.HashStore()

    def task(rank):
        step_barrier, step = StepBarrier(Channel(store), world_size=3), 7
        while step_barrier.wait(step, has_data=True):
            step += 1
            if rank == asking and step == 20:
                Channel(store).request_stop("because")
                Channel(store).request_stop("for another reason")
        return step

    (step,) = set(run_ranks(task))
    assert step == 20
    assert Channel(store).stop_reason() == "because"


def test_a_rank_that_waits_for_data_stops_the_others_where_it_stands():
    store = dist.HashStore()

    def task(rank):
        step_barrier = StepBarrier(Channel(store), world_size=3)
        for step in range(10):
            if rank == 1 and step == 4:
                Channel(store).request_stop("because")
                return step if not step_barrier.wait(step, has_data=False) else None
            if not step_barrier.wait(step, has_data=True):
                return step
        return None

    assert run_ranks(task) == [4, 4, 4]
