"""status.json: the state of a run, and a sign of life every 15 s while it runs."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from md2dist.storage.addresses import public_text
from md2dist.storage.atomic import atomic_write
from md2dist.storage.bounded import read_bounded
from md2dist.storage.typed_json import MAX_BYTES, Count, Label, Number, parse_json

logger = logging.getLogger(__name__)

STATUS_NAME = "status.json"
PERIOD_S = 15.0  # between two signs of life
State = Literal["running", "preempted", "finished", "failed"]


@dataclass(frozen=True)
class Status:
    """Content of status.json."""

    status: State
    step: Count  # finished optimizer steps
    time: Number  # when it was written, s since 1970
    message: Label = ""  # why the run failed, or ended early
    activity: Label = ""  # of the main rank; empty in earlier versions, and at the end
    activity_s: Number = 0.0  # s since the main rank last reported progress


def read_status(run_dir: Path) -> Status | None:
    """Reads the status of a run; None if it has none.

    Raises:
        ValueError: if it is damaged, naming the first wrong field.
        OSError: if it cannot be read.
    """
    try:
        return parse_json(read_bounded(run_dir / STATUS_NAME, MAX_BYTES), Status)
    except FileNotFoundError:
        return None


def find_status(run_dir: Path) -> Status | None:
    """Reads the status of a run; None, with a warning, if it is damaged."""
    try:
        return read_status(run_dir)
    except (OSError, ValueError) as error:
        logger.warning("%s is damaged: %s", run_dir / STATUS_NAME, error)
        return None


class StatusWriter:
    """Writes status.json, until the run is over; thread-safe.

    Args:
        run_dir: the run's folder.
        step: returns the number of finished steps.
        may_write: returns whether the folder is still there, and this run's.
    """

    def __init__(self, run_dir: Path, step: Callable[[], int], may_write: Callable[[], bool]):
        self._path, self._step, self._may_write = run_dir / STATUS_NAME, step, may_write
        self._lock, self._over = threading.Lock(), threading.Event()
        self._activity: Callable[[], tuple[str, float]] | None = None

    def follow(self, activity: Callable[[], tuple[str, float]]) -> None:
        """Writes the activity as well from now on, at least every 15 s.

        Args:
            activity: returns what this process does, and for how many s without progress.
        """
        self._activity = activity
        threading.Thread(target=self._keep_fresh, daemon=True).start()

    def write(self, state: State, message: str = "") -> None:
        """Writes a state; the first one other than running is the last."""
        with self._lock:
            if self._over.is_set():  # after a failure; the training thread may still write
                return
            if state != "running":
                self._over.set()
            with logging_a_failed_write(self._path):  # network file systems fail anywhere
                if self._may_write():
                    text = json.dumps(self._describe(state, message))
                    atomic_write(self._path, f"{text}\n".encode())

    def _describe(self, state: State, message: str) -> dict[str, Any]:
        status: dict[str, Any] = {
            "status": state,
            "step": self._step(),
            "time": round(time.time(), 3),
        }
        if message:
            status["message"] = public_text(message)
        if state == "running" and self._activity is not None:
            activity, seconds = self._activity()
            status |= {"activity": activity, "activity_s": round(seconds, 1)}
        return status

    def _keep_fresh(self) -> None:
        while not self._over.wait(PERIOD_S):
            self.write("running")


@contextmanager
def logging_a_failed_write(path: Path) -> Iterator[None]:
    """Logs an OSError of the block; training continues."""
    try:
        yield
    except OSError as error:
        logger.warning("%s could not be written: %s; training continues", path, error.strerror)
