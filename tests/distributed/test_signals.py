"""Signals and ends of launchers, each with its own processes."""

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from md2dist.distributed.signals import LauncherMonitor

RECEIVER = """
import ctypes, sys, threading
from md2dist.distributed.signals import SignalReceiver
box = SignalReceiver()
def receive():
    print(*[number.name for number in box.wait(30)], flush=True)
thread = threading.Thread(target=receive)
thread.start()
print("ready", flush=True)
while thread.is_alive():
    ctypes.CDLL(None).usleep(300_000)  # as in a collective: no handler of Python runs
box.close()
print("closed", flush=True)
sys.stdin.readline()
sys.exit(7)
"""
ORPHAN = """
import os, sys, time
from md2dist.distributed.signals import LauncherMonitor
launcher = LauncherMonitor(is_launched=True)
print(launcher.is_gone(), flush=True)
while not launcher.is_gone():
    time.sleep(0.05)
late = LauncherMonitor(is_launched=True)
print("gone", late.is_gone(), LauncherMonitor(False).is_gone(), flush=True)
"""
# A process between this one and the orphan, started as DeepSpeed starts its ranks.
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"


def start(*command, **options):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, *command], **pipes, text=True, **options)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_is_received_while_the_main_thread_waits_and_later_ones_are_ignored(number):
    process = start("-c", RECEIVER)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.stdout.readline() == f"{number.name}\n"
    assert process.stdout.readline() == "closed\n"
    for late in (signal.SIGTERM, signal.SIGUSR1):
        process.send_signal(late)
    process.communicate("end\n", timeout=30)
    assert process.returncode == 7


def test_a_process_without_free_files_does_not_believe_that_its_launcher_is_gone(monkeypatch):
    launcher = LauncherMonitor(is_launched=True)

    def fail(path):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Path, "read_bytes", fail)
    assert not launcher.is_gone()


def test_the_end_of_a_launcher_is_noticed_even_if_it_was_before_the_monitor():
    """In a session of its own, as under a terminal, ssh or SLURM: else nothing is left to see."""
    parent = start("-c", PARENT, ORPHAN, start_new_session=True)
    assert parent.stdout.readline() == "False\n"
    parent.kill()
    assert parent.stdout.read() == "gone True False\n"


def test_the_end_of_the_process_above_the_launcher_of_a_node_is_noticed(tmp_path):
    """`deepspeed` starts deepspeed.launcher.launch, which starts the ranks."""
    package = tmp_path / "deepspeed" / "launcher"
    package.mkdir(parents=True)
    (package / "launch.py").write_text(PARENT)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    command = "[sys.executable, '-m', 'deepspeed.launcher.launch', sys.argv[1]]"
    top = f"import subprocess, sys; subprocess.run({command}, cwd={str(tmp_path)!r})"
    process = start("-c", top, ORPHAN)
    assert process.stdout.readline() == "False\n"
    process.kill()
    assert process.stdout.read().startswith("gone ")
