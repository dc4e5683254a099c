"""Read-ahead: files are opened in threads before they are needed, within limits."""

import threading
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

_Item = TypeVar("_Item")
_Key = TypeVar("_Key", bound=Hashable)
_File = TypeVar("_File")


class ReadAheadLimits(NamedTuple):
    """Limits of the read-ahead."""

    num_items: int  # items taken from the input
    num_files: int  # files open or being opened
    num_bytes: int  # total size of these files


def read_ahead(
    items: Iterable[tuple[_Item, _Key]],
    open_file: Callable[[_Key], _File],
    size_of: Callable[[_Key], int],
    limits: ReadAheadLimits,
    num_threads: int,
) -> Iterator[tuple[_Item, _File]]:
    """Yields items in order, each with its file, opened ahead of time.

    A file stays open as long as an item within the limits needs it.

    Args:
        items: each with the key of its file; several may share one.
        open_file: opens the file of a key; its exception is raised when the first item that needs
            the file is due.
        size_of: returns the size of the file of a key, in bytes.
        limits: of the read-ahead; the next file is opened in any case.
        num_threads: number of files that are opened at the same time.
    """
    ahead: deque[tuple[_Item, _Key]] = deque()
    files: dict[_Key, Future[_File]] = {}
    num_uses: Counter[_Key] = Counter()
    num_bytes = 0
    tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
    for _ in range(num_threads):
        # Daemon threads: a process that exits does not wait for a server.
        threading.Thread(target=_run_tasks, args=(tasks,), daemon=True).start()

    def take_next() -> tuple[_Item, _File]:
        nonlocal num_bytes
        item, key = ahead.popleft()
        file = files[key].result()
        num_uses[key] -= 1
        if not num_uses[key]:
            del files[key], num_uses[key]
            num_bytes -= size_of(key)
        return item, file

    try:
        for item, key in items:
            if key not in files:
                future = files[key] = Future()
                tasks.put(lambda future=future, key=key: _complete(future, open_file, key))
                num_bytes += size_of(key)
            num_uses[key] += 1
            ahead.append((item, key))
            while ahead and any(
                found > allowed
                for found, allowed in zip((len(ahead), len(files), num_bytes), limits, strict=True)
            ):
                yield take_next()
        while ahead:
            yield take_next()
    finally:
        for future in files.values():
            future.cancel()
        for _ in range(num_threads):
            tasks.put(None)


def _run_tasks(tasks: "SimpleQueue[Callable[[], None] | None]") -> None:
    while (task := tasks.get()) is not None:
        task()
        del task  # it holds the file


def _complete(future: Future, open_file: Callable[[Any], object], key: object) -> None:
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(open_file(key))
        except BaseException as error:
            future.set_exception(error)
