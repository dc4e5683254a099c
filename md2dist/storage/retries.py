"""Retries with exponential backoff."""

import logging
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from md2dist.storage.transfer import TransferError

logger = logging.getLogger(__name__)

_LONGEST_WAIT = 30.0  # s
_Result = TypeVar("_Result")


class RetryPolicy(NamedTuple):
    """Number of tries, backoff and timeout."""

    num_tries: int = 8  # in a row without a new byte
    first_wait: float = 1.0  # s, doubled after each failure, up to 30 s
    timeout: float = 30.0  # s without a byte before a connection counts as broken
    warns: bool = False  # whether failures are logged from the second one in a row on


BACKGROUND = RetryPolicy()
INTERACTIVE = RetryPolicy(num_tries=3)  # a user waits at the terminal


def retry(
    attempt: Callable[[], _Result],
    is_transient: Callable[[Exception], bool],
    retry_policy: RetryPolicy,
    progress: Callable[[], int] = lambda: 0,
    what: str = "",
) -> _Result:
    """Calls a function until it succeeds, with exponential backoff.

    Args:
        attempt: the function; it raises on failure.
        is_transient: returns whether a retry may succeed after an exception.
        retry_policy: its `num_tries` limits the failures in a row without progress.
        progress: returns a number that grows as `attempt` makes progress; where it is too slow,
            that does not count.
        what: what is tried, for the log.

    Returns:
        The result of the first successful call.

    Raises:
        Exception: the last failure, or the first one that is not transient.
    """
    failures = 0
    while True:
        before = progress()
        try:
            return attempt()
        except Exception as error:
            is_progress = progress() > before and not isinstance(error, TransferError)
            failures = 1 if is_progress else failures + 1
            if failures >= retry_policy.num_tries or not is_transient(error):
                raise
            if retry_policy.warns and failures > 1:
                next_try = f"try {failures + 1} of {retry_policy.num_tries} follows"
                logger.warning("%s: %s; %s", what, error, next_try)
        time.sleep(min(retry_policy.first_wait * 2 ** (failures - 1), _LONGEST_WAIT))
