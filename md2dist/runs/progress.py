"""Progress of a run: a bar on a terminal, else a log line every 30 s."""

import logging
import math
import sys
import time

from tqdm import tqdm

logger = logging.getLogger(__name__)

_LINE_PERIOD_S = 30.0


class Progress:
    """Shows the steps of a run on standard error.

    Args:
        last_step: number of steps of the whole run.
    """

    def __init__(self, last_step: int):
        self._last_step = last_step
        self._bar: tqdm | None = None
        self._next_line_at = -math.inf

    def advance(self, step: int) -> None:
        """Moves the bar to `step` finished steps; the first call draws it."""
        if self._bar is None:
            self._bar = tqdm(
                total=self._last_step,
                initial=step,
                unit="step",
                dynamic_ncols=True,
                mininterval=0.5,
                leave=False,  # the log says what was done
                disable=not _has_terminal(),
            )
        self._bar.update(step - self._bar.n)

    def report(self, values: str, step: int) -> None:
        """Shows values beside the bar; logs them without a bar, at most every 30 s."""
        if self._bar is not None and not self._bar.disable:
            self._bar.set_postfix_str(values, refresh=False)
        elif time.monotonic() >= self._next_line_at:
            self._next_line_at = time.monotonic() + _LINE_PERIOD_S
            logger.info("step %d of %d: %s", step, self._last_step, values)

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()


def _has_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
