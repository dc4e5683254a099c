"""Watchdog: threads in every rank through which all ranks stop, fail and exit together.

Twice a second, all ranks agree that nothing is wrong: the pulse. If it is lost, a rank raises an
alarm or none makes progress, they use the job's key-value store, from then on: twice a second, each
rank writes a heartbeat and checks whether a stop was requested, whether the job has failed, and
whether rank 0, which hosts the store, is alive. Rank 0 checks the heartbeats of all other ranks.
"""

import faulthandler
import itertools
import logging
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self, TextIO

import torch.distributed as dist

from md2dist.console import describe_system_error, make_presentable, print_error, print_line
from md2dist.distributed.channel import Channel
from md2dist.distributed.failure import (
    Failure,
    call_bounded,
    end_process,
    is_lost_connection,
    kill_children,
    show_stacks,
    write_flight_recorder,
)
from md2dist.distributed.heartbeat import Heartbeat, HeartbeatMonitor, Pulse
from md2dist.distributed.host_group import HostGroup
from md2dist.distributed.signals import LauncherMonitor, SignalReceiver
from md2dist.distributed.world import World, barrier
from md2dist.errors import Md2distError

logger = logging.getLogger(__name__)

_PERIOD_S = 0.5
_LOST_UPDATES = 4  # without a pulse, until the store shows which rank is missing
_DEAD_UPDATES = 26  # then without a heartbeat or an answer
_DEAD_S = 15.0  # sum of both; less than the 30 s after which launchers kill a node's ranks
_BEAT_UPDATES = 20  # between heartbeats while the pulse is calm: the store serves all ranks
_START_S = 1800.0  # at the start, weights and shards may come over a slow network
_NCCL_PREFIX = "nccl-rank-"
_NCCL_REMARK = f", and `torchfrtrace --prefix {_NCCL_PREFIX} logs` compares their collectives"


class Watchdog:
    """Watches the job, together with the watchdogs of the other ranks, inside its `with` block.

    An exception that leaves the block ends all ranks, as do a dead rank and a hang.

    Args:
        world: this process, connected; all ranks create a watchdog in their main thread.
    """

    def __init__(self, world: World):
        self._world = world
        self._channel = Channel.connect(timeout_s=_DEAD_S)
        self._signals, self._launcher = SignalReceiver(), LauncherMonitor(world.is_launched)
        self._monitor = HeartbeatMonitor(_DEAD_UPDATES)
        self._host = f"process {os.getpid()} on {socket.gethostname()}"
        topology = world.topology()
        self._pulse = Pulse(lambda: HostGroup.connect("pulse", topology).minimum, _PERIOD_S)
        self._count, self._activity = 0, "starting"
        self._progressed_at = time.monotonic()
        self._interrupted_at: float | None = None
        self._stopping, self._left = threading.Event(), threading.Event()
        self._unanswered_updates = 0
        self._reason = ""  # reason of this rank to request a stop
        self._saved = "nothing was saved"
        self._threads = [
            threading.Thread(target=target, daemon=True)
            for target in (self._receive, self._exchange)
        ]
        self._hang_timeout_s = _START_S
        self._on_failure: Callable[[str], None] = lambda message: None
        self._log_file: TextIO | None = None
        self._log_folder: Path | None = None

    def report_to(self, log_path: Path, on_failure: Callable[[str], None]) -> None:
        """Reports failures to the run's folder as well from now on.

        Args:
            log_path: file for the stacks of this rank's threads, beside the terminal.
            on_failure: called with the reason on rank 0, or on all others if rank 0 is dead.
        """
        self._log_folder = log_path.parent
        self._log_file = log_path.open("a", encoding="utf-8", errors="backslashreplace")
        self._on_failure = on_failure

    def set_hang_timeout(self, seconds: float) -> None:
        """Sets the time without progress after which the job ends; 30 minutes before this call.

        The time begins anew.
        """
        self._pulse.progress += 1
        self._hang_timeout_s = seconds

    def report_progress(self, activity: str) -> None:
        """Reports progress, and the current activity of this rank."""
        self._activity, self._progressed_at = activity, time.monotonic()
        self._pulse.progress += 1

    def activity(self) -> tuple[str, float]:
        """Returns the activity of this rank, and the time in s since it last reported progress."""
        return self._activity, time.monotonic() - self._progressed_at

    def report_saved(self, step: int) -> None:
        """Reports the newest checkpoint, which a second interrupt names."""
        self._saved = f"saved at step {step}; the same command resumes"

    def is_stopping(self) -> bool:
        """Whether a stop was requested on any rank."""
        return self._stopping.is_set()

    def __enter__(self) -> Self:
        self._beat()
        for thread in self._threads:
            thread.start()
        if self._world.world_size > 1:
            self._pulse.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, SystemExit):  # on all ranks
            barrier()  # so that no faster rank is taken for dead
            self._pulse.leave(_DEAD_S)
            self._leave()
            barrier()
            kill_children()
            return
        if is_lost_connection(error):  # the threads find the dead rank, and end this process
            self._threads[-1].join(2 * _DEAD_S)
        self._leave()
        if isinstance(error, Md2distError):
            failure = Failure(str(error), exit_code=2)
        elif message := describe_system_error(error):
            with suppress(OSError):  # of the log's own disk
                if self._log_file is not None:
                    stacks = "".join(traceback.format_exception(error))
                    self._log_file.write(make_presentable(stacks))
                    self._log_file.flush()
            where = f"rank {self._world.rank}: " * (self._world.world_size > 1)
            failure = Failure(where + message, exit_code=2)
        else:
            print_line("".join(traceback.format_exception(error)).rstrip())
            failure = Failure(f"rank {self._world.rank} failed: {type(error).__name__}: {error}")
        failure = self._channel.announce_failure(failure)
        self._pulse.set_alarm(True)
        time.sleep(2 * _PERIOD_S)  # until others know of it
        self._end(failure)

    def _leave(self) -> None:
        self._left.set()
        for thread in self._threads:
            thread.join()
        faulthandler.cancel_dump_traceback_later()
        self._signals.close()

    def _receive(self) -> None:
        """Receives signals, and ends the process if the store does not answer."""
        while not self._left.is_set():
            received = self._signals.wait(_PERIOD_S)
            for number in received:
                self._take_signal(number)
            self._unanswered_updates += not received
            if self._unanswered_updates >= _DEAD_UPDATES:
                self._end_without_main()

    def _take_signal(self, number: signal.Signals) -> None:
        self._reason = self._reason or f"rank {self._world.rank} received {number.name}"
        if number == signal.SIGINT:
            now = time.monotonic()
            self._interrupted_at = self._interrupted_at or now
            if now - self._interrupted_at > 2:  # not the copy of the first one from a launcher
                print_error(f"interrupted twice; {self._saved}")
                end_process(130)

    def _exchange(self) -> None:
        """Exchanges heartbeats, stop requests and failures with the other ranks."""
        try:
            for number in itertools.count():
                if self._left.wait(_PERIOD_S):
                    return
                if self._launcher.is_gone():
                    self._reason = self._reason or f"the launcher of rank {self._world.rank} exited"
                is_calm = self._is_calm()
                if is_calm and not self._reason:
                    self._monitor.restart(self._pulse.stalled_rounds())
                    if number % _BEAT_UPDATES == 0:
                        self._beat()
                else:
                    self._update()
                self._unanswered_updates = 0
        except dist.DistError:
            self._end_without_main()

    def _is_calm(self) -> bool:
        """Whether the store can be left alone. If rank 0 suspects a hang, no rank is calm."""
        stalled_s = self._pulse.stalled_rounds() * _PERIOD_S
        is_hanging = self._world.is_main and stalled_s >= self._hang_timeout_s
        self._pulse.set_alarm(bool(self._reason) or is_hanging)
        return self._pulse.is_calm(_LOST_UPDATES) and not is_hanging

    def _update(self) -> None:
        if self._reason:
            self._channel.request_stop(self._reason)
        reason = self._channel.stop_reason()
        if reason and not self.is_stopping():
            logger.info("stopping: %s", reason)
            self._stopping.set()
        self._beat()
        failure = self._channel.failure()
        if failure is None and (found := self._check_others()):
            failure = self._channel.announce_failure(found)
        if failure is not None:
            self._end(failure)

    def _beat(self) -> None:
        self._count += 1
        beat = Heartbeat(self._count, self._pulse.progress, self._activity, self._host)
        self._channel.set_heartbeat(self._world.rank, beat)
        if self._log_file is not None:  # written even if Python itself hangs
            faulthandler.dump_traceback_later(_DEAD_S, file=self._log_file)

    def _check_others(self) -> Failure | None:
        ranks = range(self._world.world_size) if self._world.is_main else [0]
        beats = self._channel.heartbeats(ranks)
        if beats is None:
            return None
        self._monitor.update(beats)
        if self._monitor.dead():
            if not self._world.is_main:
                self._end_without_main()
            return Failure(f"{self._monitor.describe_dead()} died or stopped responding")
        if (
            self._world.is_main
            and self._monitor.stalled_updates * _PERIOD_S >= self._hang_timeout_s
        ):
            return Failure(
                f"no progress on any rank for {self._hang_timeout_s:g} s (log.hang_timeout_s); "
                f"{self._monitor.describe_work()}; logs/rank-N.log show the stacks of all threads"
                + _NCCL_REMARK
                * (self._world.device.type == "cuda"),
                shows_stacks=True,
            )
        return None

    def _end(self, failure: Failure) -> NoReturn:
        """Ends this process; rank 0 prints the reason."""
        if failure.shows_stacks:
            show_stacks(self._log_file)
            self._write_flight_recorder()
        if self._world.is_main:
            print_error(failure.message)
            call_bounded(lambda: self._on_failure(failure.message))
            time.sleep(4 * _PERIOD_S)  # the store ends with it; others read it first
        else:
            logger.info("ended: %s", failure.message)
        end_process(failure.exit_code)

    def _write_flight_recorder(self) -> None:
        if self._world.device.type == "cuda" and self._log_folder is not None:
            path = self._log_folder / f"{_NCCL_PREFIX}{self._world.rank}"
            call_bounded(lambda: write_flight_recorder(path))

    def _end_without_main(self) -> NoReturn:
        """Ends this process after the death of rank 0; one rank per node prints the reason."""
        message = "rank 0 died or stopped responding"
        if self._world.local_rank == 0 or self._world.rank == 1:
            print_error(message)
        call_bounded(lambda: self._on_failure(message))
        end_process(1)
