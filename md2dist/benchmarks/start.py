"""Benchmark of the start of a training: CPU time of all its processes up to the first step."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from md2dist.distributed.processes import read_process
from md2dist.distributed.world import find_free_port
from md2dist.errors import ConfigError

_PERIOD_S, _MOST_S = 0.2, 1800.0
_TICKS = os.sysconf("SC_CLK_TCK")
_LAUNCHERS = {"launcher.launch": "launch", "--local_rank": "ranks", "deepspeed": "deepspeed"}


def bench_start(words: Sequence[str], num_ranks: int) -> dict[str, Any]:
    """Starts a training under `deepspeed` on this machine, and stops it after its first step.

    Args:
        words: configuration files and settings; the run's folder is a temporary one.
        num_ranks: number of ranks.

    Returns:
        Seconds of CPU time of `deepspeed`, of its `launch`, of the ranks, of their children (loader
        workers, W&B) and of all together, and seconds of time, which other processes prolong.

    Raises:
        ConfigError: if the training ends before its first step, with its last lines.
    """
    with tempfile.TemporaryDirectory() as folder:
        run_dir, output = Path(folder, "run"), Path(folder, "output.txt")
        command = [
            sys.executable,
            "-m",
            "deepspeed.launcher.runner",
            "-q",
            "--num_gpus",
            str(num_ranks),
        ]
        command += ["--master_port", str(find_free_port()), "--module", "md2dist.commands.train"]
        command += ["--config", *words, f"log.run_dir={run_dir}", "log.every_steps=1"]
        began = time.perf_counter()
        with output.open("wb") as file:
            job = subprocess.Popen(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        seen: dict[int, tuple[str, float]] = {}
        try:
            while not _has_lines(run_dir / "metrics.jsonl"):
                if job.poll() is not None or time.perf_counter() - began > _MOST_S:
                    end = output.read_text(errors="replace").strip()[-2000:]
                    raise ConfigError(f"the training ended before its first step:\n{end}")
                seen |= _session(job.pid)
                time.sleep(_PERIOD_S)
            seconds = time.perf_counter() - began
            seen |= _session(job.pid)
        finally:
            while processes := _session(job.pid):
                for pid in processes:
                    with suppress(ProcessLookupError):  # has just ended
                        os.kill(pid, signal.SIGKILL)
                job.poll()
                time.sleep(_PERIOD_S)
            job.wait()
    by_kind: dict[str, float] = dict.fromkeys(("deepspeed", "launch", "ranks", "children"), 0.0)
    for kind, cpu_s in seen.values():
        by_kind[kind] += cpu_s
    figures = {f"{kind}_cpu_s": cpu_s for kind, cpu_s in by_kind.items()}
    return {**figures, "cpu_s": sum(by_kind.values()), "seconds": seconds, "num_ranks": num_ranks}


def _has_lines(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _session(leader: int) -> dict[int, tuple[str, float]]:
    """Returns kind and CPU time in s of each running process of a session."""
    found: dict[int, tuple[int, float, str]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        fields = read_process(pid := int(entry.name), "stat").rpartition(b")")[2].split()
        if fields and fields[0] != b"Z" and int(fields[3]) == leader:
            name = read_process(pid, "cmdline").decode(errors="replace")
            found[pid] = int(fields[1]), (int(fields[11]) + int(fields[12])) / _TICKS, name
    kinds = {pid: _kind_of(name) for pid, (_, _, name) in found.items()}
    return {  # workers are forks of ranks, with the same command line
        pid: ("children" if kinds.get(parent) == "ranks" else kinds[pid], cpu_s)
        for pid, (parent, cpu_s, _) in found.items()
    }


def _kind_of(name: str) -> str:
    return next((kind for part, kind in _LAUNCHERS.items() if part in name), "children")
