"""Fetching files, or parts of them, from a store that may fail on the way."""

from collections.abc import Callable, Iterator
from io import BufferedRandom
from typing import Protocol, TypeVar

from md2dist.errors import ShardError
from md2dist.storage.retries import RetryPolicy, retry

CHUNK = 1 << 18  # bytes that a store yields at once
NUM_AT_ONCE = 16  # questions to a store at most, of all threads of a process
ByteRange = tuple[int, int]  # first byte, and the byte behind the last one
_Answer = TypeVar("_Answer")


class StoreError(Exception):
    """What a store failed at.

    Args:
        reason: in the store's own words.
        is_transient: whether another try may mend it.
        is_missing: whether the store says that it has no such file, not that it refuses to tell.
    """

    def __init__(self, reason: object, *, is_transient: bool, is_missing: bool = False):
        super().__init__(str(reason) or type(reason).__name__)
        self.is_transient = is_transient
        self.is_missing = is_missing


class Store(Protocol):
    """A place that holds files by name; every method raises `StoreError`.

    A store can be pickled, serves several threads, and uses no connection that was opened before
    its process was forked.
    """

    url: str  # of the place, for people

    def read(self, name: str, byte_range: ByteRange | None = None) -> Iterator[bytes]:
        """Yields the bytes of a file, or of a part of it, in pieces."""
        ...

    def size(self, name: str) -> int | None:
        """Returns the bytes of a file; None where only reading it would tell."""
        ...

    def has_ranges(self, name: str) -> bool:
        """Whether a part of a file can be had without what lies before it."""
        ...


def with_retries(
    store: Store, name: str, question: Callable[[], _Answer], retry_policy: RetryPolicy
) -> _Answer:
    """Repeats a question to a store until it is answered.

    Args:
        store: that is asked.
        name: of the file that the question is about.
        question: asks once.
        retry_policy: with a store that fails or stalls.

    Raises:
        ShardError: naming the file, the store and what happened, if the store keeps failing, or
            says that it has no such file.
    """
    try:
        return retry(question, lambda e: isinstance(e, StoreError) and e.is_transient, retry_policy)
    except StoreError as error:
        tried = f"tried {retry_policy.num_tries} times: " if error.is_transient else ""
        raise ShardError(f"{name} cannot be had from {store.url}: {tried}{error}") from None


def fetch_bytes(
    store: Store, name: str, retry_policy: RetryPolicy, byte_range: ByteRange | None = None
) -> bytes:
    """Fetches a file, or a part of it, that fits in memory.

    Raises:
        ShardError: if the store does not have it, or keeps failing.
    """
    return with_retries(store, name, lambda: b"".join(store.read(name, byte_range)), retry_policy)


def fetch_checked(
    store: Store,
    name: str,
    byte_range: ByteRange | None,
    stream: BufferedRandom,
    check: Callable[[BufferedRandom], str],
    retry_policy: RetryPolicy,
) -> None:
    """Fetches a file, or a part of it, and looks whether the right bytes have arrived.

    Args:
        store: where the file is.
        name: of the file.
        byte_range: the part; None: all of it.
        stream: takes the bytes, from its beginning on.
        check: says what is wrong with what has been written up to the stream's position; "" where
            nothing is.
        retry_policy: with a store that fails or stalls.

    Raises:
        ShardError: if the store keeps failing, or sends other bytes.
        OSError: if the stream cannot be written.
    """
    wrong_before = ""

    def attempt() -> None:
        nonlocal wrong_before
        stream.seek(0)
        for piece in store.read(name, byte_range):
            stream.write(piece)
        stream.truncate()  # an earlier try may have gone farther
        if wrong := check(stream):
            # Damage on the way hardly comes twice alike: then the store itself holds other bytes.
            is_transient, wrong_before = wrong != wrong_before, wrong
            raise StoreError(wrong, is_transient=is_transient)

    with_retries(store, name, attempt, retry_policy)
