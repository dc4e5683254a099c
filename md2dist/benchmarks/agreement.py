"""Benchmark of the agreement of all ranks before a step, and of the heartbeats between steps."""

import multiprocessing
import os
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from md2dist.distributed.channel import Meeting, Member, adopt_meeting, connect_store
from md2dist.distributed.host_group import HostGroup
from md2dist.distributed.step_barrier import StepBarrier
from md2dist.distributed.topology import Topology
from md2dist.distributed.watchdog import Watchdog
from md2dist.distributed.world import World
from md2dist.errors import ConfigError

_WARM_UP_STEPS = 20
_WATCHED_S = 30.0
_TIMEOUT = timedelta(minutes=10)


class _Cost(NamedTuple):
    """Cost of one step, or of one second."""

    wall_ms: float
    rank_ms: float  # CPU time of rank 0
    store_ms: float  # CPU time of the store, which a training has in the process of rank 0


def bench_agreement(world_sizes: Sequence[int], num_steps: int) -> list[dict[str, Any]]:
    """Times step barriers and heartbeats of ranks on this machine, each a process on one thread.

    Args:
        world_sizes: numbers of ranks.
        num_steps: number of timed steps.

    Returns:
        Figures per number of ranks: milliseconds per step of time, of CPU time of rank 0, and of
        CPU time of the store; the same for an agreement through the store, with three requests per
        rank; and the store's CPU time for heartbeats, per second and 100 ranks.

    Raises:
        ConfigError: if there is nothing to time.
    """
    if num_steps < 1 or any(size < 2 for size in world_sizes):
        raise ConfigError(
            f"--repeats {num_steps} and --ranks {' '.join(map(str, world_sizes))}: expected >= 1 "
            "step, and >= 2 ranks"
        )
    rows = []
    for world_size in world_sizes:
        group = _measure(world_size, _agree_in_group, num_steps)
        store = _measure(world_size, _agree_in_store, num_steps)
        watched = _measure(world_size, _watch, 1)
        rows.append(
            {
                "ranks": world_size,
                "wall_ms": group.wall_ms,
                "rank_0_cpu_ms": group.rank_ms,
                "store_cpu_ms": group.store_ms,
                "through_store_wall_ms": store.wall_ms,
                "through_store_rank_0_cpu_ms": store.rank_ms,
                "through_store_store_cpu_ms": store.store_ms,
                "heartbeats_store_ms_per_s_and_100_ranks": watched.store_ms
                / _WATCHED_S
                * 100
                / world_size,
                "steps": num_steps,
                "cores": len(os.sched_getaffinity(0)),
            }
        )
    return rows


def _measure(world_size: int, prepare: Callable, num_steps: int) -> _Cost:
    """Runs the ranks of a job, whose store is in this process."""
    store = dist.TCPStore(  # pyright: ignore[reportPrivateImportUsage]
        "127.0.0.1", 0, is_master=True, timeout=_TIMEOUT, wait_for_workers=False
    )
    host = Member("", "", "", "", "", "")
    meeting = Meeting(uuid.uuid4().hex, world_size, host)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    results = context.SimpleQueue()
    processes = [
        context.Process(
            target=_run_rank, args=(meeting, store.port, rank, prepare, num_steps, results)
        )
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    results.get()  # rank 0 begins
    begun = time.process_time()
    wall_s, rank_s = results.get()
    store_s = time.process_time() - begun
    for process in processes:
        process.join()
    return _Cost(*(1000 * seconds / num_steps for seconds in (wall_s, rank_s, store_s)))


def _run_rank(
    meeting: Meeting, port: int, rank: int, prepare: Callable, num_steps: int, results: Any
) -> None:
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, is_master=False, timeout=_TIMEOUT)  # pyright: ignore[reportPrivateImportUsage]
    adopt_meeting(meeting, "127.0.0.1", port, store)
    take_step = prepare(Topology(rank, meeting.world_size, rank, meeting.world_size))
    for step in range(_WARM_UP_STEPS):
        take_step(step)
    if rank == 0:
        results.put(None)
        wall, cpu = time.perf_counter(), time.process_time()
    for step in range(_WARM_UP_STEPS, _WARM_UP_STEPS + num_steps):
        take_step(step)
    if rank == 0:
        results.put((time.perf_counter() - wall, time.process_time() - cpu))
        store.set("done", "")
    store.wait(["done"], _TIMEOUT)
    store.add("left", 1)
    while rank == 0 and store.add("left", 0) < meeting.world_size:
        time.sleep(0.1)
    os._exit(0)  # without the end of a watchdog, which takes a process group


def _agree_in_group(topology: Topology) -> Callable[[int], object]:
    barrier = StepBarrier(HostGroup.connect("steps", topology), lambda: False)
    return lambda step: barrier.wait(step, has_data=True)


def _agree_in_store(topology: Topology) -> Callable[[int], object]:
    """The last rank to arrive decides for all."""
    store = connect_store("steps", _TIMEOUT.total_seconds())

    def agree(step: int) -> None:
        if store.add(f"{step}/ready", 1) == topology.world_size:
            store.check(["stop"])
            store.set(f"{step}/decision", "take")
            for name in ("ready", "decision"):
                store.delete_key(f"{step - 1}/{name}")
        store.wait([f"{step}/decision"], _TIMEOUT)
        store.get(f"{step}/decision")

    return agree


def _watch(topology: Topology) -> Callable[[int], object]:
    """Watchdogs of ranks that do nothing else; each timed step is a time of heartbeats."""
    rank, world_size, *_ = topology
    world = World(rank, rank, world_size, torch.device("cpu"), world_size)
    watchdog = Watchdog(world).__enter__()
    while watchdog._pulse.stalled_rounds() < _WARM_UP_STEPS:
        time.sleep(0.1)
    return lambda step: time.sleep(_WATCHED_S * (step >= _WARM_UP_STEPS))
