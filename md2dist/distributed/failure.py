"""Failure of a job: one reason for all ranks, and no process left running."""

import faulthandler
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TextIO

import torch
import torch.distributed as dist

from md2dist.console import print_line
from md2dist.storage.atomic import atomic_write

_c10d: Any = vars(torch._C)["_distributed_c10d"]
_BOUND_S = 5.0


class Failure(NamedTuple):
    """Reason of a failed job."""

    message: str
    exit_code: int = 1
    shows_stacks: bool = False  # whether all ranks print the stacks of their threads


def is_lost_connection(error: BaseException) -> bool:
    """Whether an exception is the consequence of another rank's exit."""
    # gloo has no exception type of its own.
    is_gloo = isinstance(error, RuntimeError) and "gloo" in str(error)
    return is_gloo or isinstance(error, dist.DistError)


def show_stacks(log_file: TextIO | None) -> None:
    """Prints the stacks of all threads of this process to the terminal and to a log file."""
    print_line("stacks of all threads of a rank:")
    for file in (sys.stderr, log_file):
        if file is not None:
            faulthandler.dump_traceback(file, all_threads=True)


def write_flight_recorder(path: Path, dump: Callable[[], bytes] | None = None) -> None:
    """Writes the last collectives of this rank, which `torchfrtrace` compares between ranks.

    Args:
        path: file, whose name ends with the rank.
        dump: returns the content; by default NCCL's flight recorder, if this torch has NCCL.
    """
    dump = dump or getattr(_c10d, "_dump_nccl_trace", None)
    if dump is not None:
        atomic_write(path, dump())


def call_bounded(action: Callable[[], None]) -> None:
    """Calls a function, and continues without it if it takes too long."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(_BOUND_S)


def kill_children() -> None:
    """Kills the child processes, such as loader workers.

    Python would wait for a hanging worker forever.
    """
    for child in multiprocessing.active_children():
        child.kill()


def end_process(exit_code: int) -> NoReturn:
    """Ends this process, even while its main thread waits."""
    kill_children()
    sys.stderr.flush()
    os._exit(exit_code)
