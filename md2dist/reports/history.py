"""Metrics of a run over its steps, as columns of numbers."""

import re
from array import array
from dataclasses import dataclass, field
from pathlib import Path

from md2dist.runs.metrics_file import read_lines

MOST_LINES = 1_000_000
_MOST_NAMES = 64
_NAME = re.compile(r"epoch|(train|val)/[a-z0-9_]{1,40}")


@dataclass
class Series:
    """A metric over the steps at which it was logged."""

    steps: array = field(default_factory=lambda: array("d"))
    values: array = field(default_factory=lambda: array("d"))  # NaN where it was not finite

    def __len__(self) -> int:
        return len(self.steps)


@dataclass
class History:
    """All metrics of a run."""

    series: dict[str, Series]
    times: Series  # s since 1970, when the lines were written
    is_cut: bool = False  # whether there were more than `MOST_LINES` lines

    def get(self, name: str) -> Series:
        """Returns a metric; empty if it was not logged."""
        return self.series.get(name, Series())

    def last(self, name: str) -> float | None:
        """Returns the last value of a metric; None if it was not logged."""
        series = self.get(name)
        return series.values[-1] if series else None

    def last_step(self) -> int:
        """Returns the step of the last line; 0 without one."""
        return int(self.times.steps[-1]) if self.times else 0


def read_history(path: Path) -> History:
    """Reads metrics.jsonl, of which a missing one is empty.

    Raises:
        OSError: if it cannot be read.
    """
    history = History({}, Series())
    for number, line in enumerate(read_lines(path)):
        if number == MOST_LINES:
            history.is_cut = True
            break
        history.times.steps.append(line.step)
        history.times.values.append(line.time)
        for name, value in line.values.items():
            series = history.series.get(name)
            if series is None:
                if len(history.series) == _MOST_NAMES or not _NAME.fullmatch(name):
                    continue
                series = history.series[name] = Series()
            series.steps.append(line.step)
            series.values.append(value)
    return history
