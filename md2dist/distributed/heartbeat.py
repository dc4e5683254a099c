"""Heartbeats: detection of dead ranks and of hangs."""

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

logger = logging.getLogger(__name__)

Minimum = Callable[[Sequence[int]], Sequence[int]]


class Heartbeat(NamedTuple):
    """State of a rank, written to the store."""

    count: int  # increases while the process is alive
    progress: int  # increases while it makes progress
    activity: str  # current activity, for messages
    host: str  # host and process id


class HeartbeatMonitor:
    """Compares the heartbeats of an update with those before.

    It counts updates instead of seconds, so that a suspended machine has no dead ranks afterwards.

    Args:
        dead_after: number of updates without a new heartbeat after which a rank is dead.
    """

    def __init__(self, dead_after: int):
        self._dead_after = dead_after
        self._beats: dict[int, Heartbeat] = {}
        self._silent_updates: defaultdict[int, int] = defaultdict(int)
        self.stalled_updates = 0  # updates in a row without progress on any rank

    def restart(self, stalled_updates: int) -> None:
        """Forgets all heartbeats, while something else shows that all ranks are alive.

        Args:
            stalled_updates: how long no rank has made progress by now.
        """
        self._beats.clear()
        self._silent_updates.clear()
        self.stalled_updates = stalled_updates

    def update(self, beats: Mapping[int, Heartbeat]) -> None:
        """Takes the newest heartbeat of each rank."""
        is_first, is_stalled = not self._beats, True
        for rank, beat in beats.items():
            last = self._beats.get(rank)
            is_silent = last is not None and last.count == beat.count
            self._silent_updates[rank] = self._silent_updates[rank] + 1 if is_silent else 0
            is_stalled = is_stalled and last is not None and last.progress == beat.progress
        if not is_first:
            self.stalled_updates = self.stalled_updates + 1 if is_stalled else 0
        self._beats = dict(beats)

    def dead(self) -> list[int]:
        """Lists the dead ranks."""
        return [rank for rank, count in self._silent_updates.items() if count >= self._dead_after]

    def describe_dead(self) -> str:
        """Describes the dead ranks with their last activities."""
        return " and ".join(
            f"rank {rank} ({self._beats[rank].host}, {self._beats[rank].activity})"
            for rank in self.dead()
        )

    def describe_work(self) -> str:
        """Describes the activities of all ranks, grouped."""
        ranks = defaultdict(list)
        for rank, beat in self._beats.items():
            ranks[beat.activity].append(str(rank))
        return "; ".join(
            f"rank {', '.join(names)}: {activity}" for activity, names in ranks.items()
        )


class Pulse:
    """Regular agreement of all ranks that nothing is wrong, which spares the store.

    A round takes a few messages between neighbours. Rounds stop if a rank dies or hangs as a whole;
    who it was, the heartbeats in the store show.

    Args:
        connect: connects all ranks, and returns the function that gives the smallest of each value
            over all of them; the thread of this object calls both.
        period_s: time between two rounds.
    """

    def __init__(self, connect: Callable[[], Minimum], period_s: float):
        self._connect, self._period_s = connect, period_s
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._is_leaving = False
        self._wake = threading.Event()
        self._is_calm, self._num_rounds, self._seen_rounds, self._missed = False, 0, 0, 0
        self._seen_progress, self._stalled_rounds = 0, 0
        self._is_alarmed = False
        self.progress = 0  # increases while this rank makes progress

    def start(self) -> None:
        """Starts the rounds; all ranks call it."""
        self._thread.start()

    def is_calm(self, lost_after: int) -> bool:
        """Whether rounds come regularly, and no rank has raised an alarm; called regularly.

        Args:
            lost_after: number of calls without a new round after which the pulse is lost.
        """
        is_new = self._num_rounds != self._seen_rounds
        self._missed = 0 if is_new else self._missed + 1
        self._seen_rounds = self._num_rounds
        return self._is_calm and self._missed < lost_after

    def stalled_rounds(self) -> int:
        """Returns the number of rounds in a row without progress on any rank."""
        return self._stalled_rounds if self.progress == self._seen_progress else 0

    def set_alarm(self, is_alarmed: bool) -> None:
        """Makes all ranks use the store, from the next round until the alarm is over."""
        if is_alarmed and not self._is_alarmed:
            self._wake.set()
        self._is_alarmed = is_alarmed

    def leave(self, timeout_s: float) -> None:
        """Ends the rounds, together with all ranks."""
        self._is_leaving = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            minimum, stalled, is_over = self._connect(), 0, False
            while not is_over:
                self._wake.wait(self._period_s)
                self._wake.clear()
                progress = self.progress
                stalled = stalled + 1 if progress == self._seen_progress else 0
                mine = (not self._is_alarmed, self._is_leaving, stalled)
                is_calm, is_over, self._stalled_rounds = minimum(mine)
                self._seen_progress = progress
                self._is_calm = bool(is_calm)
                self._num_rounds += 1
        except RuntimeError as error:  # of gloo or the store; another rank has ended
            logger.debug("no more pulse: %s", error)
        self._is_calm = False
