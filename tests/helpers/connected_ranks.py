"""Runs a function on several connected ranks, each a process or a thread."""

import multiprocessing
import os
import sys
import threading
from pathlib import Path

import torch.multiprocessing

from md2dist.distributed.world import find_free_port, init_distributed, shutdown_distributed

# The preload may not initialise CUDA, which forks could not use then.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
# The ranks are forks of one process that has imported torch and DeepSpeed, which takes seconds.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch.multiprocessing", "deepspeed", "md2dist.training.run"])
ROOT = Path(__file__).resolve().parents[2]


def train_on_forks(words, num_ranks, output, environment):
    """Runs `md2dist train` on ranks that no launcher starts; returns the first exit code but 0.

    Args:
        words: arguments.
        num_ranks: number of ranks.
        output: file that receives what all ranks print.
        environment: variables.
    """
    arguments = (list(map(str, words)), num_ranks, find_free_port(), str(output), environment)
    ranks = [CONTEXT.Process(target=_train, args=(rank, *arguments)) for rank in range(num_ranks)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(300)
        rank.kill()
        rank.join()
    return next((rank.exitcode for rank in ranks if rank.exitcode), 0)


def _train(rank, words, num_ranks, port, output, environment):
    """Is a rank of `train_on_forks`."""
    from md2dist.commands.train import main
    from md2dist.console import run_command

    for number in (1, 2):
        os.dup2(os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT), number)
    os.chdir(ROOT)
    _set_variables({**environment, "LOCAL_WORLD_SIZE": str(num_ranks)}, rank, num_ranks, port)
    torch.set_num_threads(1)
    sys.argv = ["launch/train.py", *words]
    run_command(main)


def run_rank(rank, world_size, port, test_process, environment, task, results):
    torch.set_num_threads(1)
    for number in (1, 2):  # output goes where that of the test goes now, not where it once went
        os.dup2(os.open(f"/proc/{test_process}/fd/{number}", os.O_WRONLY | os.O_APPEND), number)
    _set_variables(environment, rank, world_size, port)
    world = init_distributed()
    try:
        results[rank] = task(world)
    except SystemExit as end:
        results[rank] = f"exit {end.code}"
    except ValueError as error:
        results[rank] = f"{type(error).__name__}: {error}"
    finally:
        shutdown_distributed()


def _set_variables(environment, rank, world_size, port):
    """Sets the variables of a launcher."""
    os.environ.clear()
    os.environ.update(
        environment,
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
    )  # fmt: skip


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
