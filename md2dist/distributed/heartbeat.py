"""Heartbeats: detection of dead ranks and of hangs."""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple


class Heartbeat(NamedTuple):
    """State of a rank, written about twice a second."""

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

    def update(self, beats: Mapping[int, Heartbeat]) -> None:
        """Takes the newest heartbeat of each rank."""
        is_stalled = True
        for rank, beat in beats.items():
            last = self._beats.get(rank)
            is_silent = last is not None and last.count == beat.count
            self._silent_updates[rank] = self._silent_updates[rank] + 1 if is_silent else 0
            is_stalled = is_stalled and last is not None and last.progress == beat.progress
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
