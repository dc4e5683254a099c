"""Agreement between ranks: errors raised on all of them, and values compared."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from md2dist.console import print_error
from md2dist.distributed.world import World, gather_over_ranks
from md2dist.errors import Md2distError


@contextmanager
def raise_on_all_ranks(world: World) -> Iterator[None]:
    """Raises an error of any rank on all of them.

    Args:
        world: this process; every rank must enter and leave the block.

    Raises:
        Md2distError: this rank's error if all ranks have the same; otherwise one of the same type
            with the messages of all ranks.
    """
    error: Md2distError | None = None
    try:
        yield
    except Md2distError as caught:
        error = caught
    errors = gather_over_ranks(error)
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
    """Ends all ranks on an error of any of them, printed once by the main rank.

    Args:
        world: this process; every rank must enter and leave the block.

    Raises:
        Md2distError: with a single process. Several exit with code 2, after the main rank has
            printed the messages of all ranks.
    """
    try:
        with raise_on_all_ranks(world):
            yield
    except Md2distError as error:
        if world.world_size == 1:
            raise
        if world.is_main:  # first: the launcher ends the others when one has exited
            print_error(str(error))
        sys.exit(2)


def check_agreement(world: World, remedy: str, **values: object) -> None:
    """Compares values that must be the same on all ranks, each of which determined them itself.

    Args:
        world: this process; every rank must call.
        remedy: remedy if they differ, for the message.
        **values: values by name, compared as text.

    Raises:
        Md2distError: naming the first value that differs, and two ranks with theirs.
    """
    if world.world_size == 1:
        return
    texts = {name: str(values[name]) for name in values}
    for rank, others in enumerate(gather_over_ranks(texts)):
        for name, value in others.items():
            if value != str(values[name]):
                raise Md2distError(
                    f"the ranks disagree on {name}: rank {world.rank} has {values[name]}, rank "
                    f"{rank} has {value}; {remedy}"
                )
