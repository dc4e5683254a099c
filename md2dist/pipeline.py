"""Pipeline: threads prepare and finish single items, beside a computation on batches of them."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
Output = TypeVar("Output")
Result = TypeVar("Result")

_MOST_THREADS = 16
_END = object()


def run_pipeline(
    batches: Iterable[Iterable[Item]],
    prepare: Callable[[Item], Prepared],
    compute: Callable[[list[Prepared]], Iterable[Output]],
    finish: Callable[[Prepared, Output], Result],
) -> Iterator[Result]:
    """Runs three stages side by side, each on a batch of its own.

    Args:
        batches: not empty; iterated in the caller's thread, one batch ahead of `compute`.
        prepare: called for each item, in threads.
        compute: maps a prepared batch to an output for each of its items, in the caller's thread.
        finish: called for each prepared item and its output, in threads.

    Yields:
        The results of `finish`, in the order of the items.

    Raises:
        Exception: the first one of any stage, after the results of the items before it. Calls that
            have begun are completed first, also at Ctrl-C; no others begin.
    """
    coming = iter(batches)
    fault: Exception | None = None
    with ThreadPoolExecutor(min(_MOST_THREADS, len(os.sched_getaffinity(0)))) as pool:

        def start_next() -> list[Future[Prepared]]:
            nonlocal fault
            try:
                return [pool.submit(prepare, item) for item in next(coming, ())]
            except Exception as error:
                fault = error
                return []

        try:
            finishing: list[Future[Result]] = []
            preparing = start_next()
            while preparing:
                prepared, outputs, following = [], [], []
                try:
                    prepared = [future.result() for future in preparing]
                    following = start_next()
                    outputs = list(compute(prepared))
                except Exception as error:
                    fault, prepared, following = error, [], []
                yield from _results(finishing)
                finishing = [
                    pool.submit(finish, value, output)
                    for value, output in zip(prepared, outputs, strict=True)
                ]
                preparing = following
            yield from _results(finishing)
        finally:
            pool.shutdown(cancel_futures=True)
    if fault is not None:
        raise fault


def iterate_ahead(items: Iterable[Item], num_ahead: int) -> Generator[Item]:
    """Iterates in a thread, some items ahead; exceptions are raised when their item is due."""
    iterator = iter(items)
    with ThreadPoolExecutor(1) as pool:

        def read() -> Future[Any]:
            return pool.submit(next, iterator, _END)

        try:
            ahead = deque(read() for _ in range(num_ahead))
            while (item := ahead.popleft().result()) is not _END:
                ahead.append(read())
                yield item
        finally:
            pool.shutdown(cancel_futures=True)


def _results(futures: list[Future[Result]]) -> Iterator[Result]:
    while futures:  # a result that is yielded is no longer held here
        yield futures.pop(0).result()
