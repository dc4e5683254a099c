"""Agreement between ranks: errors raised on all of them, and values compared."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.distributed as dist

from md2dist.console import print_error
from md2dist.distributed.world import World
from md2dist.errors import Md2distError


@contextmanager
def raise_on_all_ranks(world: World) -> Iterator[None]:
    """Makes an error of use on any rank be raised on all of them.

    Args:
        world: this process; every rank must enter and leave the block.

    Raises:
        Md2distError: the own error where all ranks that had one had the same, else one of its kind
            that tells every distinct message and who had it.
    """
    error: Md2distError | None = None
    try:
        yield
    except Md2distError as caught:
        error = caught
    errors = [error] if world.world_size == 1 else _gather(error, world)
    failed = {rank: error for rank, error in enumerate(errors) if error is not None}
    if not failed:
        return
    messages = {str(error) for error in failed.values()}
    if error is not None and len(messages) == 1 and len(failed) == world.world_size:
        raise error
    messages = [f"rank {rank}: {error}" for rank, error in failed.items()]
    raise type(next(iter(failed.values())))("; ".join(messages))


@contextmanager
def exit_on_all_ranks(world: World) -> Iterator[None]:
    """Makes an error of use on any rank end all of them, printed once and by the main rank alone.

    Args:
        world: this process; every rank must enter and leave the block.

    Raises:
        Md2distError: if this process is alone. Several leave with exit code 2, after the main one
            has messages every distinct message and who had it.
    """
    try:
        with raise_on_all_ranks(world):
            yield
    except Md2distError as error:
        if world.world_size == 1:
            raise
        if world.is_main:  # at once: the launcher ends the others when the first one has left
            print_error(str(error))
        sys.exit(2)


def check_agreement(world: World, remedy: str, **facts: object) -> None:
    """Compares facts that must be the same on all ranks, since each found them by itself.

    Args:
        world: this process; every rank must call.
        remedy: what to do where they differ.
        **facts: by name, with a comparable text.

    Raises:
        Md2distError: naming the first fact that differs, and two ranks with their values.
    """
    if world.world_size == 1:
        return
    for rank, others in enumerate(_gather({name: str(facts[name]) for name in facts}, world)):
        for name, value in others.items():
            if value != str(facts[name]):
                raise Md2distError(
                    f"the ranks disagree on {name}: rank {world.rank} has {facts[name]}, rank "
                    f"{rank} has {value}; {remedy}"
                )


def _gather(value: Any, world: World) -> list[Any]:
    values = [None] * world.world_size
    dist.all_gather_object(values, value)
    return values
