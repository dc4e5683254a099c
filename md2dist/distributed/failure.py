"""How a job ends before its time: one reason for all ranks, and no process left behind."""

import faulthandler
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from typing import NamedTuple, NoReturn, TextIO

import torch.distributed as dist

_BOUND_S = 5.0


class Failure(NamedTuple):
    """Why a job ends before its time."""

    message: str
    exit_code: int = 1
    shows_stacks: bool = False  # of all threads of all ranks


def is_lost_connection(error: BaseException) -> bool:
    """Whether an exception says that another rank has gone, rather than what is wrong here."""
    is_gloo = isinstance(error, RuntimeError) and "gloo" in str(error)  # it has no type of its own
    return is_gloo or isinstance(error, dist.DistError)


def show_stacks(log_file: TextIO | None) -> None:
    """Prints what every thread of this process is doing, on the terminal and to a log file."""
    for file in (sys.stderr, log_file):
        if file is not None:
            faulthandler.dump_traceback(file, all_threads=True)


def call_bounded(action: Callable[[], None]) -> None:
    """Calls a function, and goes on without it where it takes too long."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(_BOUND_S)


def kill_children() -> None:
    """Kills the processes that this one has forked, such as loader workers.

    A worker that hangs would be waited for without end.
    """
    for child in multiprocessing.active_children():
        child.kill()


def end_process(exit_code: int) -> NoReturn:
    """Ends this process, whatever its main thread is waiting for."""
    kill_children()
    sys.stderr.flush()
    os._exit(exit_code)
