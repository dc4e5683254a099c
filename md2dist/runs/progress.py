"""Progress of a run: a bar on a terminal, else a line for each report."""

import logging
import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

logger = logging.getLogger(__name__)

_BAR = "{desc}|{bar}|"  # the bar takes what a terminal of 80 columns or more has left


class Progress:
    """Shows the steps of a run on standard error.

    Args:
        last_step: number of steps of the whole run.
        steps_per_epoch: number of steps of an epoch.
        num_epochs: length of the run in epochs.
    """

    def __init__(self, last_step: int, steps_per_epoch: int, num_epochs: int):
        self._last_step, self._steps_per_epoch = last_step, steps_per_epoch
        self._num_epochs = num_epochs
        self._bar: tqdm | None = None
        self._first_step, self._start = 0, 0.0  # of this start of the run
        self._seconds_per_step: float | None = None
        self._values = ""

    def advance(self, step: int) -> None:
        """Moves the bar to `step` finished steps; the first call draws it."""
        if self._bar is None:
            self._first_step, self._start = step, time.monotonic()
            self._bar = tqdm(
                total=self._last_step,
                initial=step,
                desc=self._describe(step),
                bar_format=_BAR,
                dynamic_ncols=True,
                mininterval=0.5,
                leave=False,  # the log says what was done
                disable=not _has_terminal(),
            )
        self._bar.set_description_str(self._describe(step), refresh=False)
        self._bar.update(step - self._bar.n)

    def report(self, metrics: Mapping[str, float], step: int) -> None:
        """Shows the means of some steps beside the bar; logs them where there is no bar.

        Args:
            metrics: as they are logged, by name.
            step: the last of these steps.
        """
        loss, rate = metrics["train/loss"], metrics["train/lr"]
        speed, wait = metrics["train/samples_per_second"], metrics["train/data_wait"]
        self._seconds_per_step = metrics["train/seconds_per_step"]
        self._values = f"loss {loss:.4f} lr {rate:.2g} {speed:.1f}/s wait {wait:.0%} "
        if self._bar is None or self._bar.disable:
            epoch, run = self._steps_left(step)
            logger.info(
                "step %d of %d: epoch %d of %d, loss %.4f, rate %.3g, %.1f samples/s, "
                "%.0f %% data wait, left %s in the epoch, %s in the run",
                *(step, self._last_step, self._epoch(step), self._num_epochs),
                *(loss, rate, speed, 100 * wait),
                *(show_time(steps * self._seconds_per_step) for steps in (epoch, run)),
            )

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()

    def _describe(self, step: int) -> str:
        place = f"epoch {self._epoch(step)}/{self._num_epochs} step {step}/{self._last_step}"
        return f"{place} {self._values}{self._time_left(step)}"

    def _epoch(self, step: int) -> int:
        """Returns the epoch of the last finished step, counted from 1."""
        return max(step - 1, 0) // self._steps_per_epoch + 1

    def _steps_left(self, step: int) -> tuple[int, int]:
        """Returns the number of steps that are left in the epoch and in the run."""
        run = max(self._last_step - step, 0)
        return min(self._epoch(step) * self._steps_per_epoch - step, run), run

    def _time_left(self, step: int) -> str:
        seconds = self._seconds_per_step
        if seconds is None and step > self._first_step:
            seconds = (time.monotonic() - self._start) / (step - self._first_step)
        if seconds is None:
            return ""
        epoch, run = (show_time(steps * seconds) for steps in self._steps_left(step))
        return f"left {epoch}/{run} "


def show_time(seconds: float) -> str:
    """Formats a duration in its two largest units.

    >>> show_time(8.4), show_time(192), show_time(43320), show_time(200000)
    ('8s', '3m12s', '12h02m', '2d08h')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60}h{minutes % 60:02d}m"
    hours = round(seconds / 3600)
    return f"{hours // 24}d{hours % 24:02d}h"


def _has_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
