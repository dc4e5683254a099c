"""Rendezvous: the ranks of one start of a job find each other, and no process of another job."""

import os
import socket
import sys
import time
import uuid
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from md2dist.distributed.channel import Lobby, Meeting, Member
from md2dist.distributed.launcher import Launch
from md2dist.distributed.processes import identify_machine
from md2dist.distributed.signals import LauncherMonitor
from md2dist.distributed.waiting import Wait, waiting_for
from md2dist.errors import ConfigError

_PERIOD_S, _PROBE_S = 0.2, 5.0
_ANSWER = timedelta(seconds=30)
_UNKNOWN_HOST_S = 30.0  # the name of a host that is starting may become known late
_FOR_RANK_0_S = 3.0  # rank 0 of the same launcher may report the reason for all of its ranks
_OTHER_PORT = (
    "give one of the jobs another port: deepspeed --master_port N, torchrun --master-port N, or "
    "MASTER_PORT=N in the environment"
)
_CHECKS = (
    "check that all ranks were started, that MASTER_ADDR and MASTER_PORT are the address of rank 0 "
    "on all nodes, and that no firewall is between them"
)


def meet(launch: Launch) -> tuple[Any, Meeting]:
    """Waits until all ranks of the job have joined.

    Until a process is known to belong to the job, it writes nothing to the store.

    Args:
        launch: place of this process in its job; a single process is alone at any free port.

    Returns:
        A connection to the store of the job, and the meeting of this start.

    Raises:
        ConfigError: if the job at that address is another one, or the address cannot be used.
    """
    if launch.world_size == 1:
        store = _host_store(0)
        return store, Meeting(uuid.uuid4().hex, 1, _describe_process(launch))
    # Of the ranks on a node that do not find rank 0, one reports it.
    is_quiet = launch.rank > 1 and launch.local_rank > 0
    with waiting_for("the other ranks", _CHECKS, is_quiet=is_quiet) as wait:
        rendezvous = _Rendezvous(launch, wait)
        return rendezvous.host() if launch.rank == 0 else rendezvous.join()


class _Rendezvous:
    def __init__(self, launch: Launch, wait: Wait):
        self._launch, self._wait = launch, wait
        self._member = _describe_process(launch)
        self._launcher = LauncherMonitor(launch.is_launched)
        self._address = f"{launch.address}:{launch.port}"
        self._began = time.monotonic()

    def host(self) -> tuple[Any, Meeting]:
        """Opens a meeting as rank 0, and waits for all others."""
        is_kept, world_size = self._launch.keeps_store, self._launch.world_size
        store = self._connect() if is_kept else _host_store(self._launch.port)
        lobby, meeting = Lobby(store), Meeting(uuid.uuid4().hex, world_size, self._member)
        lobby.open(meeting)
        lobby.enter(meeting, 0, self._member)
        note = self._note_on_address()
        missing = list(range(1, world_size))
        while missing := [rank for rank in missing if not lobby.has_entered(meeting, rank)]:
            names = ", ".join(map(str, missing[:5])) + ", ..." * (len(missing) > 5)
            count = f"{len(missing)} of {world_size} ranks ({names})"
            self._wait.subject = f"{count} at {self._address}{note}"
            self._check_launcher()
            self._check_host()
            time.sleep(_PERIOD_S)
        fault = _find_mixture(lobby.members(meeting))
        lobby.conclude(meeting, fault)
        if fault:
            time.sleep(_FOR_RANK_0_S)  # the store ends with this process
            raise ConfigError(fault)
        return store, meeting

    def join(self) -> tuple[Any, Meeting]:
        """Enters the meeting of rank 0, and waits until it is complete."""
        while True:
            store = self._connect()
            with suppress(dist.DistError):  # that rank 0 has ended, but another one may come
                return store, self._enter_newest(Lobby(store))

    def _enter_newest(self, lobby: Lobby) -> Meeting:
        entered: Meeting | None = None
        while True:
            self._check_launcher()
            try:
                meeting = self._read_meeting(lobby)
                if meeting is not None and meeting != entered:
                    self._enter(lobby, meeting)
                    entered = meeting
            except ConfigError:
                # A store that the launcher keeps may hold the meeting before a restart.
                if not self._launch.keeps_store:
                    time.sleep(_FOR_RANK_0_S)
                    raise
            if entered is not None and (fault := lobby.conclusion(entered)) is not None:
                if fault:  # rank 0 reports it
                    sys.exit(2)
                return entered
            time.sleep(_PERIOD_S)

    def _read_meeting(self, lobby: Lobby) -> Meeting | None:
        try:
            return lobby.meeting()
        except ValueError:
            raise ConfigError(
                f"another version of md2dist runs at {self._address}; {_OTHER_PORT}"
            ) from None

    def _enter(self, lobby: Lobby, meeting: Meeting) -> None:
        """Enters a meeting, or raises a ConfigError if it is not that of this process."""
        job, rank = f"the job at {self._address}", self._launch.rank
        if meeting.world_size != self._launch.world_size:
            raise ConfigError(
                f"{job} has {meeting.world_size} ranks, but this process is rank {rank} of "
                f"{self._launch.world_size}; if it belongs to another job, {_OTHER_PORT}"
            )
        if not _is_one_job(self._member, meeting.host):
            raise ConfigError(f"{job} is another one, of {meeting.host.process}; {_OTHER_PORT}")
        if lobby.conclusion(meeting) is not None:
            raise ConfigError(
                f"{job} is complete without this process, which belongs to another one; "
                f"{_OTHER_PORT}"
            )
        holder = lobby.enter(meeting, rank, self._member)
        if holder != self._member:
            raise ConfigError(
                f"rank {rank} of {job} is {holder.process} already; start each rank once, or, if "
                f"this process belongs to another job, {_OTHER_PORT}"
            )

    def _connect(self) -> Any:
        """Connects to the store, once rank 0 or the launcher has opened it."""
        self._wait.subject = f"rank 0 at {self._address}"
        while True:
            self._check_launcher()
            try:
                address = (self._launch.address, self._launch.port)
                socket.create_connection(address, _PROBE_S).close()
                return _open_store(*address, is_master=False)
            except (OSError, dist.DistError) as error:
                reason = getattr(error, "strerror", None) or "no answer"
            self._wait.subject = f"rank 0 at {self._address} ({reason})"
            self._check_host()
            time.sleep(5 * _PERIOD_S)

    def _check_launcher(self) -> None:
        if self._launcher.is_gone():
            raise ConfigError(
                f"the launcher of rank {self._launch.rank} exited before all ranks had joined"
            )

    def _check_host(self) -> None:
        if time.monotonic() - self._began > _UNKNOWN_HOST_S:
            try:
                socket.getaddrinfo(self._launch.address, None)
            except socket.gaierror as error:
                raise ConfigError(
                    f"the host in MASTER_ADDR={self._launch.address} is unknown "
                    f"({error.strerror}); set it to the name or address of the node of rank 0"
                ) from None

    def _note_on_address(self) -> str:
        """Notes that MASTER_ADDR is of another node, which is right only behind a gateway."""
        try:
            with socket.create_server((self._launch.address, 0)):
                return ""
        except OSError:
            return ", which is not an address of this node, where rank 0 runs"


def _is_one_job(first: Member, second: Member) -> bool:
    are_apart = first.machine != second.machine or (
        first.node != second.node and first.node != "" and second.node != ""
    )
    return first.job == second.job and (are_apart or first.launcher == second.launcher)


def _find_mixture(members: list[Member]) -> str:
    """Finds two members that different launchers started on one node; empty if there are none."""
    first_there: dict[tuple[str, str], Member] = {}
    for member in members:
        other = first_there.setdefault((member.machine, member.node), member)
        if not _is_one_job(member, other):
            return (
                f"{other.process} and {member.process} were started by different launchers, so two "
                f"jobs use one port; {_OTHER_PORT}"
            )
    return ""


def _describe_process(launch: Launch) -> Member:
    process = f"process {os.getpid()} on {socket.gethostname()}"
    return Member(
        job=launch.job,
        machine=identify_machine(),
        node=launch.node,
        launcher=launch.launcher,
        process=process,
        token=uuid.uuid4().hex,
    )


def _host_store(port: int) -> Any:
    try:
        return _open_store("localhost", port, is_master=True)
    except dist.DistError as error:
        reason = "in use, probably by another job" if "EADDRINUSE" in str(error) else "not usable"
        raise ConfigError(f"port {port} of this machine is {reason}; {_OTHER_PORT}") from None


def _open_store(host: str, port: int, *, is_master: bool) -> Any:
    return dist.TCPStore(  # pyright: ignore[reportPrivateImportUsage]
        host, port, is_master=is_master, timeout=_ANSWER, wait_for_workers=False
    )
