"""Interface of a store, and fetching files or byte ranges from one with retries."""

from collections.abc import Callable, Iterator
from io import BufferedRandom
from typing import Protocol, TypeVar

from md2dist.errors import ShardError
from md2dist.storage.retries import RetryPolicy, retry
from md2dist.storage.transfer import TooManyBytesError, Transfer, TransferError, limit, run_transfer

CHUNK = 1 << 18  # bytes that a store yields at once, at most
NUM_AT_ONCE = 16  # concurrent requests to a store at most, over all threads of a process
ByteRange = tuple[int, int]  # first byte, and the byte after the last one
_Answer = TypeVar("_Answer")


class StoreError(Exception):
    """A request to a store has failed.

    Args:
        reason: as the store reports it.
        is_transient: whether a retry may succeed.
        is_missing: whether the store reports that it has no such file; false where it refuses
            access.
    """

    def __init__(self, reason: object, *, is_transient: bool, is_missing: bool = False):
        super().__init__(str(reason) or type(reason).__name__)
        self.is_transient = is_transient
        self.is_missing = is_missing


class Store(Protocol):
    """A location that holds files by name; every method raises `StoreError`.

    A store can be pickled, serves several threads, and uses no connection that was opened before
    its process was forked.
    """

    url: str  # of the location, for messages

    def read(self, name: str, byte_range: ByteRange | None = None) -> Iterator[bytes]:
        """Yields the bytes of a file, or of a part of it, in pieces."""
        ...

    def size(self, name: str) -> int | None:
        """Returns the size of a file in bytes; None if it is unknown before it is read."""
        ...

    def has_ranges(self, name: str) -> bool:
        """Returns whether byte ranges of a file can be read."""
        ...


def with_retries(
    store: Store,
    name: str,
    request: Callable[[Transfer], _Answer],
    retry_policy: RetryPolicy,
    accept: Callable[[_Answer], object] = lambda answer: None,
) -> _Answer:
    """Sends a request to a store until it succeeds.

    Args:
        store: receives the request.
        name: file that the request is about.
        request: sends it once, and counts the bytes that arrive.
        retry_policy: for a store that fails or stalls.
        accept: checks the answer, however long that takes; raises a `StoreError`.

    Raises:
        ShardError: naming the file, the store and the reason, if the store keeps failing or has no
            such file.
    """

    def attempt() -> _Answer:
        try:
            answer = run_transfer(request, retry_policy.timeout)
        except TransferError as error:
            is_transient = not isinstance(error, TooManyBytesError)
            raise StoreError(error, is_transient=is_transient) from None
        accept(answer)
        return answer

    try:
        return retry(
            attempt,
            lambda error: isinstance(error, StoreError) and error.is_transient,
            retry_policy,
            what=f"{name} from {store.url}",
        )
    except StoreError as error:
        tried = f"tried {retry_policy.num_tries} times: " if error.is_transient else ""
        raise ShardError(f"{name} cannot be fetched from {store.url}: {tried}{error}") from None


def fetch_bytes(
    store: Store,
    name: str,
    retry_policy: RetryPolicy,
    byte_range: ByteRange | None = None,
    *,
    max_bytes: int,
) -> bytes:
    """Fetches a file, or a byte range of it, into memory.

    Args:
        store: holds the file.
        name: of the file.
        retry_policy: for a store that fails or stalls.
        byte_range: None for the whole file.
        max_bytes: more are never received.

    Raises:
        ShardError: if the store does not have it, sends more, or keeps failing.
    """

    def request(transfer: Transfer) -> bytes:
        pieces: list[bytes] = []
        for piece in limit(store.read(name, byte_range), max_bytes):
            transfer.take(piece, pieces.append)
        return b"".join(pieces)

    return with_retries(store, name, request, retry_policy)


def fetch_checked(
    store: Store,
    name: str,
    byte_range: ByteRange | None,
    stream: BufferedRandom,
    check: Callable[[BufferedRandom], str],
    retry_policy: RetryPolicy,
    *,
    max_bytes: int,
) -> None:
    """Fetches a file, or a byte range of it, and checks the received bytes.

    Args:
        store: holds the file.
        name: of the file.
        byte_range: None for the whole file.
        stream: the bytes are written to it, from its start on.
        check: returns what is wrong with the bytes up to the position of the stream, or "".
        retry_policy: for a store that fails or stalls.
        max_bytes: more are never written.

    Raises:
        ShardError: if the store keeps failing, or sends wrong bytes.
        OSError: if the stream cannot be written.
    """
    wrong_before = ""

    def request(transfer: Transfer) -> str:
        transfer.take(b"", lambda nothing: stream.seek(0))
        try:
            for piece in limit(store.read(name, byte_range), max_bytes):
                transfer.take(piece, stream.write)
        except TooManyBytesError as error:
            return str(error)
        return ""

    def accept(wrong: str) -> None:
        nonlocal wrong_before
        if wrong := wrong or check(stream):
            # Transfer damage is hardly the same twice: then the store itself holds wrong bytes.
            is_transient, wrong_before = wrong != wrong_before, wrong
            raise StoreError(wrong, is_transient=is_transient)

    with_retries(store, name, request, retry_policy, accept)
