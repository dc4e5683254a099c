"""How a process is told to stop: by a signal, or by the end of its launcher."""

import os
import signal
import socket
from pathlib import Path

EXIT_PREEMPTED = 85  # "saved, start me again"
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
_NODE_LAUNCHER = b"deepspeed.launcher.launch"  # the process of `deepspeed` on each node


class SignalReceiver:
    """Receives the signals that ask to stop, at once, whatever the main thread is doing.

    A Python handler runs between two instructions of the main thread, which may wait in a
    collective for ever; what Python writes to the wakeup descriptor comes at once. Forked children
    keep both, so a signal that hits one of them counts too, and does not end it.

    It is made in the main thread.
    """

    def __init__(self):
        self._receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, _do_nothing)

    def wait(self, seconds: float) -> list[signal.Signals]:
        """Waits for signals; an empty list says that the time is over."""
        self._receiver.settimeout(seconds)
        try:
            received = self._receiver.recv(64)
        except TimeoutError:
            return []
        return [signal.Signals(number) for number in received if number in _SIGNALS]

    def close(self) -> None:
        """Ends the reception; those that schedulers and launchers send are ignored from here on.

        Else one of them could hit the last moments of this process and change its exit code.
        """
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)


class LauncherMonitor:
    """The processes of a launcher above this one, which nobody else would miss.

    DeepSpeed's are two: `deepspeed`, and its `launch` on each node. One that is killed leaves its
    children running.

    Args:
        is_launched: whether there is a launcher at all; a process on its own may outlive its shell.
    """

    def __init__(self, is_launched: bool):
        self._parents: dict[int, int] = {}
        if not is_launched:
            return
        parent = os.getppid()
        self._parents[os.getpid()] = parent
        if _NODE_LAUNCHER in _read_process(parent, "cmdline"):
            self._parents[parent] = _parent_of(parent)

    def is_gone(self) -> bool:
        """Whether any of them has ended.

        One that ended before this object was made is missed where the reaper of orphans shares its
        session, as the first process of a container may.
        """
        return any(
            _parent_of(child) != parent or _is_adopted(child, parent)
            for child, parent in self._parents.items()
        )


def _do_nothing(*_: object) -> None:
    """A handler that is not the default one, which would end the process."""


def _read_process(pid: int, name: str) -> bytes:
    try:
        return (Path("/proc") / str(pid) / name).read_bytes()
    except OSError:
        return b""


def _parent_of(pid: int) -> int:
    fields = _read_process(pid, "stat").rpartition(b")")[2].split()
    return int(fields[1]) if fields else 0


def _is_adopted(child: int, parent: int) -> bool:
    """Whether a process has another parent than the one that started it.

    A process is born in the session of its parent. Where the sessions differ, either it opened one
    of its own, or it has been handed over to a reaper of orphans.
    """
    try:
        session = os.getsid(child)
        return session not in (child, os.getsid(parent))
    except OSError:
        return True
