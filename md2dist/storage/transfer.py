"""Transfers of bytes from elsewhere: bounded in size, and in time by a lowest speed.

Timeouts of single reads do not bound a transfer: a server that sends a byte now and then would hold
its reader for hours. So each try runs in a thread of its own, which is left behind if too few bytes
arrive.
"""

import concurrent.futures
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

_LOWEST_SPEED = 1000  # bytes/s
_GRACE = 1.0  # s after the timeout, in which a store can report its own reason
_Result = TypeVar("_Result")


class TransferError(Exception):
    """A transfer is too slow, or over."""


class TooManyBytesError(TransferError):
    """More bytes arrive than were requested."""


class Transfer:
    """The bytes of one try, which is over as soon as its reader has left it behind."""

    def __init__(self) -> None:
        self.num_bytes = 0
        self._is_over = False
        self._lock = threading.Lock()

    def take(self, piece: bytes, consume: Callable[[bytes], object]) -> None:
        """Counts received bytes and passes them on, unless the try is over.

        Raises:
            TransferError: if it is; the bytes must go nowhere, as the next try may have begun.
        """
        with self._lock:
            if self._is_over:
                raise TransferError("the transfer is over")
            self.num_bytes += len(piece)
            consume(piece)

    def end(self) -> None:
        """Leaves the try behind: from now on it passes on no bytes."""
        with self._lock:
            self._is_over = True


def run_transfer(action: Callable[[Transfer], _Result], timeout: float) -> _Result:
    """Runs one try of a transfer.

    Args:
        action: receives bytes and passes each of them to `Transfer.take`.
        timeout: s in which at least 1 kB must arrive per second.

    Returns:
        What the action returns.

    Raises:
        TransferError: if it is too slow.
        Exception: as raised by the action.
    """
    transfer = Transfer()
    outcome: concurrent.futures.Future[_Result] = concurrent.futures.Future()

    def run() -> None:
        try:
            outcome.set_result(action(transfer))
        except BaseException as error:
            outcome.set_exception(error)

    # A daemon: a process that exits does not wait for a server.
    threading.Thread(target=run, daemon=True).start()
    try:
        while True:
            before = transfer.num_bytes
            if concurrent.futures.wait([outcome], timeout + _GRACE).done:
                return outcome.result()
            received = transfer.num_bytes - before
            if received < _LOWEST_SPEED * timeout:
                raise TransferError(f"timed out: {received} bytes in {timeout + _GRACE:g} s")
    finally:
        transfer.end()


def limit(pieces: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    """Yields pieces of at most so many bytes together.

    Raises:
        TooManyBytesError: before a piece would exceed them.
    """
    num_bytes = 0
    for piece in pieces:
        num_bytes += len(piece)
        if num_bytes > max_bytes:
            raise TooManyBytesError(f"more bytes arrive than the {max_bytes} that were requested")
        yield piece
