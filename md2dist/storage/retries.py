"""Another try, and another, where a network or a server fails, with pauses that grow."""

import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

_LONGEST_WAIT = 30.0  # s
_Result = TypeVar("_Result")


class RetryPolicy(NamedTuple):
    """How long a failing server is asked again."""

    num_tries: int = 8  # in a row without a single new byte
    first_wait: float = 1.0  # s, doubled from try to try, up to half a minute
    timeout: float = 30.0  # s without a byte before a connection counts as broken


BACKGROUND = RetryPolicy()
INTERACTIVE = RetryPolicy(num_tries=3)  # somebody waits in front of the terminal


def retry(
    attempt: Callable[[], _Result],
    is_transient: Callable[[Exception], bool],
    retry_policy: RetryPolicy,
    progress: Callable[[], int] = lambda: 0,
) -> _Result:
    """Repeats what may fail for a while.

    Args:
        attempt: raises where it fails.
        is_transient: whether a failure is one that another try may mend.
        retry_policy: how many failures in a row are enough; progress forgives the earlier ones.
        progress: a number that grows with what `attempt` has done.

    Returns:
        What the attempt returns that does not fail.

    Raises:
        Exception: the last failure, or the first one that will not pass.
    """
    failures = 0
    while True:
        before = progress()
        try:
            return attempt()
        except Exception as error:
            failures = 1 if progress() > before else failures + 1
            if failures >= retry_policy.num_tries or not is_transient(error):
                raise
        time.sleep(min(retry_policy.first_wait * 2 ** (failures - 1), _LONGEST_WAIT))
