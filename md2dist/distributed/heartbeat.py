"""Who is alive and whether anything moves, judged from the heartbeats of the ranks."""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple


class Heartbeat(NamedTuple):
    """What a rank says of itself about twice a second."""

    count: int  # grows while the process lives
    progress: int  # grows while its work goes on
    activity: str  # for people
    host: str  # host and process id


class HeartbeatMonitor:
    """Compares the beats of one look with those of the looks before.

    It counts looks and not seconds: a machine that has slept as a whole has lost nobody.

    Args:
        dead_after: looks without a beat after which a rank is given up.
    """

    def __init__(self, dead_after: int):
        self._dead_after = dead_after
        self._beats: dict[int, Heartbeat] = {}
        self._silent_updates: defaultdict[int, int] = defaultdict(int)
        self.stalled_updates = 0  # in a row, in which no rank has made progress

    def update(self, beats: Mapping[int, Heartbeat]) -> None:
        """Takes note of the newest beat of each rank."""
        is_still = True
        for rank, beat in beats.items():
            last = self._beats.get(rank)
            is_silent = last is not None and last.count == beat.count
            self._silent_updates[rank] = self._silent_updates[rank] + 1 if is_silent else 0
            is_still = is_still and last is not None and last.progress == beat.progress
        self.stalled_updates = self.stalled_updates + 1 if is_still else 0
        self._beats = dict(beats)

    def dead(self) -> list[int]:
        """Lists the ranks that have been silent for too long."""
        return [rank for rank, looks in self._silent_updates.items() if looks >= self._dead_after]

    def describe_dead(self) -> str:
        """Names them, with what they were doing."""
        return " and ".join(
            f"rank {rank} ({self._beats[rank].host}, {self._beats[rank].activity})"
            for rank in self.dead()
        )

    def describe_work(self) -> str:
        """Tells what the ranks are doing, those that do the same together."""
        ranks = defaultdict(list)
        for rank, beat in self._beats.items():
            ranks[beat.activity].append(str(rank))
        return "; ".join(f"rank {', '.join(those)}: {doing}" for doing, those in ranks.items())
