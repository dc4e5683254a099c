import threading
import time

import torch.distributed as dist
from helpers.connected_ranks import run_rank_threads

from md2dist.distributed.heartbeat import Heartbeat, HeartbeatMonitor, Pulse
from md2dist.distributed.host_group import HostGroup


def heartbeats(*counts, progress=0, activity="at step 3"):
    return {
        rank: Heartbeat(count, progress, activity, f"process {rank}")
        for rank, count in enumerate(counts)
    }


def test_a_rank_is_dead_after_so_many_updates_without_a_heartbeat_and_not_before():
    monitor = HeartbeatMonitor(dead_after=3)
    monitor.update(heartbeats(1, 1))
    for number in range(2):
        monitor.update(heartbeats(2 + number, 1))
        assert monitor.dead() == []
    monitor.update(heartbeats(4, 1))
    assert monitor.dead() == [1]
    assert monitor.describe_dead() == "rank 1 (process 1, at step 3)"


def test_a_late_heartbeat_counts():
    monitor = HeartbeatMonitor(dead_after=3)
    for count in (1, 1, 1, 2, 2, 2, 3):
        monitor.update(heartbeats(count))
        assert monitor.dead() == []


def test_a_suspended_machine_has_no_dead_ranks():
    monitor = HeartbeatMonitor(dead_after=2)
    for count in (1, 2, 500, 501):  # the pause between two updates does not matter
        monitor.update(heartbeats(count, count))
    assert monitor.dead() == []


def test_a_standstill_is_one_of_all_ranks():
    monitor = HeartbeatMonitor(dead_after=3)
    for count in range(5):
        both = heartbeats(count, count, progress=7)
        both[1] = both[1]._replace(progress=count)
        monitor.update(both)
        assert monitor.stalled_updates == 0
    for num_updates in range(1, 4):
        both = {r: sent._replace(count=sent.count + num_updates) for r, sent in both.items()}
        monitor.update(both)
        assert monitor.stalled_updates == num_updates
    monitor.update(heartbeats(99, 99, progress=8))
    assert monitor.stalled_updates == 0


def test_ranks_with_the_same_activity_are_described_together():
    monitor = HeartbeatMonitor(dead_after=3)
    some = heartbeats(1, 1, 1)
    some[1] = some[1]._replace(activity="reading the data of step 3")
    monitor.update(some)
    assert monitor.describe_work() == "rank 0, 2: at step 3; rank 1: reading the data of step 3"


def test_a_restart_forgets_heartbeats_and_keeps_the_time_without_progress():
    monitor = HeartbeatMonitor(dead_after=1)
    monitor.update(heartbeats(1, 1))
    monitor.restart(stalled_updates=7)
    monitor.update(heartbeats(1, 1))
    assert (monitor.dead(), monitor.stalled_updates) == ([], 7)
    monitor.update(heartbeats(2, 1))
    assert (monitor.dead(), monitor.stalled_updates) == ([1], 8)


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def start_pulse(store, rank):
    pulse = Pulse(lambda: HostGroup(store, rank, 3).minimum, period_s=0.01)
    pulse.start()
    return pulse


def test_the_pulse_of_all_ranks_is_calm_until_one_raises_an_alarm_and_ends_with_all():
    store, barrier = dist.HashStore(), threading.Barrier(3)

    def task(rank):
        pulse = start_pulse(store, rank)
        wait_until(lambda: pulse.is_calm(10**9))
        for is_alarmed in (True, False, True):
            if rank == 1:
                pulse.set_alarm(is_alarmed)
            wait_until(lambda is_alarmed=is_alarmed: pulse.is_calm(10**9) is not is_alarmed)
            barrier.wait(30)
        pulse.leave(timeout_s=30)
        return pulse.is_calm(10**9)

    assert run_rank_threads(task, 3) == [False] * 3


def test_a_pulse_is_lost_after_so_many_looks_without_a_round():
    rounds, block = iter([(1, 0, 0)]), threading.Event().wait
    pulse = Pulse(lambda: lambda values: next(rounds, None) or block(), period_s=0)
    pulse.start()
    wait_until(lambda: pulse.is_calm(3))
    assert [pulse.is_calm(3) for _ in range(4)] == [True, True, False, False]


def test_the_pulse_counts_rounds_without_progress_on_any_rank():
    store, seen = dist.HashStore(), threading.Barrier(3)

    def task(rank):
        pulse = start_pulse(store, rank)
        for _ in range(20):
            pulse.progress += rank == 2
            time.sleep(0.01)
        wait_until(lambda: pulse.stalled_rounds() >= 10)
        pulse.progress += rank == 2
        if rank == 2:
            assert pulse.stalled_rounds() == 0  # before the next round
            while seen.n_waiting < 2:  # progress goes on until the others have seen it
                pulse.progress += 1
                time.sleep(0.005)
        else:
            wait_until(lambda: pulse.stalled_rounds() < 10)
        seen.wait(30)
        pulse.leave(timeout_s=30)

    run_rank_threads(task, 3)


def test_the_pulse_of_a_rank_that_loses_its_neighbour_is_not_calm():
    def minimum(values):
        raise RuntimeError("[gloo] Connection closed by peer")

    pulse = Pulse(lambda: minimum, period_s=0)
    pulse.start()
    pulse.leave(timeout_s=30)
    assert not pulse.is_calm(10**9)
