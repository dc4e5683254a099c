"""Commands that continue a run, or use it once it is finished."""

import shlex
from pathlib import Path

from md2dist.reports.run_record import RunRecord
from md2dist.storage.addresses import MASK


def next_command(run: RunRecord) -> str:
    """Returns the command that continues a run, or evaluates a finished one; empty if unknown."""
    if run.status.status == "finished":
        return _evaluation(run)
    start = run.start
    if start is None:
        return ""
    words = ["md2dist", "train"]
    if start.num_ranks > start.node_size:
        words = ["deepspeed", "-q", "--hostfile", "HOSTFILE", "--module", "md2dist.commands.train"]
    elif start.num_ranks > 1:
        words = ["deepspeed", "-q", "--num_gpus", str(start.num_ranks)]
        words += ["--module", "md2dist.commands.train"]
    command = shlex.join([*words, *start.command])
    if str(Path.cwd()) != start.folder:
        command = f"cd {shlex.quote(start.folder)} && {command}"
    return command


def note_on_command(command: str) -> str:
    """Returns what a user must add to a command before it works; empty if nothing."""
    notes = []
    if MASK in command:
        notes.append(f"{MASK} stands for secrets that are not stored")
    if " HOSTFILE " in command:
        notes.append("HOSTFILE names the nodes; with SLURM, give the sbatch command again")
    return "; ".join(notes)


def _evaluation(run: RunRecord) -> str:
    shards = run.start.val_shards.get("folder") if run.start else None
    words = ["md2dist", "evaluate", "--checkpoint", str(run.folder), "--shards", shards or "SHARDS"]
    return shlex.join(words)
