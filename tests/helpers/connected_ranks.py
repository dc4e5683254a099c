"""Runs a function on several connected ranks, each a process or a thread."""

import multiprocessing
import os
import threading

import torch.multiprocessing

from md2dist.distributed.world import find_free_port, init_distributed, shutdown_distributed

# The ranks are forks of one process that has imported torch, which takes seconds.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch.multiprocessing", "md2dist.distributed.world"])


def run_rank(rank, world_size, port, test_process, environment, task, results):
    torch.set_num_threads(1)
    for number in (1, 2):  # output goes where that of the test goes now, not where it once went
        os.dup2(os.open(f"/proc/{test_process}/fd/{number}", os.O_WRONLY | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(
        environment,
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
    )  # fmt: skip
    world = init_distributed()
    try:
        results[rank] = task(world)
    except SystemExit as end:
        results[rank] = f"exit {end.code}"
    except ValueError as error:
        results[rank] = f"{type(error).__name__}: {error}"
    finally:
        shutdown_distributed()


def run_ranks(task, world_size=2):
    """Runs task(world) on each of `world_size` connected ranks; returns the results by rank."""
    with CONTEXT.Manager() as manager:
        results = manager.dict()
        arguments = (world_size, find_free_port(), os.getpid(), dict(os.environ), task, results)
        torch.multiprocessing.start_processes(
            run_rank, arguments, nprocs=world_size, start_method="forkserver"
        )
        return [results[rank] for rank in range(world_size)]


def run_rank_threads(task, world_size):
    """Runs task(rank) in a thread per rank; returns the results by rank."""
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
