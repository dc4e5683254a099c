"""Stop requests: signals, and the end of the launcher."""

import os
import signal
import socket

from md2dist.distributed.processes import parent_of, read_process

EXIT_PREEMPTED = 85  # saved; the same command resumes
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
_NODE_LAUNCHER = b"deepspeed.launcher.launch"  # process of `deepspeed` on each node


class SignalReceiver:
    """Receives stop signals at once, even while the main thread is blocked.

    A Python handler runs between two instructions of the main thread, which may wait in a
    collective forever; Python writes to the wakeup descriptor at once. Forked children inherit
    both, so a signal to one of them counts as well, and does not end it.

    It must be created in the main thread.
    """

    def __init__(self):
        self._receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, _do_nothing)

    def wait(self, seconds: float) -> list[signal.Signals]:
        """Waits for signals; returns an empty list at the timeout."""
        self._receiver.settimeout(seconds)
        try:
            received = self._receiver.recv(64)
        except TimeoutError:
            return []
        return [signal.Signals(number) for number in received if number in _SIGNALS]

    def close(self) -> None:
        """Stops receiving; signals of schedulers and launchers are ignored from here on.

        Otherwise a late signal could change the exit code of this process.
        """
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)


class LauncherMonitor:
    """Detects the end of the launcher's processes, which would leave this process running.

    DeepSpeed has two: `deepspeed`, and its `launch` on each node.

    Args:
        is_launched: whether there is a launcher; a process without one may outlive its shell.
    """

    def __init__(self, is_launched: bool):
        self._parents: dict[int, int] = {}
        if not is_launched:
            return
        parent = os.getppid()
        self._parents[os.getpid()] = parent
        if _NODE_LAUNCHER in read_process(parent, "cmdline"):
            self._parents[parent] = parent_of(parent)

    def is_gone(self) -> bool:
        """Whether any of them has ended.

        If one ended before this object was created, it is not detected when the process that
        adopts orphans is in the same session, as the first process of a container may be.
        """
        return any(
            parent_of(child) != parent or _is_adopted(child, parent)
            for child, parent in self._parents.items()
        )


def _do_nothing(*_: object) -> None:
    """Replaces the default handler, which would end the process."""


def _is_adopted(child: int, parent: int) -> bool:
    """Whether a process has another parent than the one that started it.

    A process starts in the session of its parent. If the sessions differ, it has either opened its
    own, or been adopted after its parent's end.
    """
    try:
        session = os.getsid(child)
        return session not in (child, os.getsid(parent))
    except OSError:
        return True
