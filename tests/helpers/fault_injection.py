"""Fault injection into a running job, from outside: signals, kills, damaged files, a full disk."""

import os
import resource
import signal
from contextlib import contextmanager, suppress

SMALL_FILE = 1 << 20  # bytes; the log fits, a checkpoint does not
FAILED_SAVE = "no checkpoint could be saved"


def signal_to(name, number):
    """Returns a function that sends a signal to one of the job's processes, or to all."""
    return lambda job: job.send(number, name)


def signal_repeatedly(job):
    """Sends stop signals repeatedly until the checkpoint is saved."""
    ranks = [job.pid("rank 0"), job.pid("rank 1")]
    before = newest_checkpoint(job)

    def signal_ranks():
        for rank in ranks:
            with suppress(ProcessLookupError):
                os.kill(rank, signal.SIGTERM)
                os.kill(rank, signal.SIGUSR1)
        return newest_checkpoint(job) != before

    job.wait_until(signal_ranks)


def signal_and_stop(name, number):
    """Returns a function that signals a process, waits for further steps, and sends SIGTERM."""

    def inject(job):
        job.send(number, name)
        step = job.status()["step"]
        job.wait_until(lambda: job.status()["step"] > step + 1)
        job.send(signal.SIGTERM, "rank 0")

    return inject


def cut_power(job):
    """Kills all processes at once."""
    job.kill()


def cut_power_while_saving(job):
    """Kills all processes while a checkpoint is partially written."""
    job.wait_until(lambda: any(folder_of_checkpoints(job).glob(".partial-*/*.pt")))
    job.kill()


def cut_power_and(damage):
    """Returns a function that kills all processes, then damages the run's folder."""

    def inject(job):
        job.kill()
        damage(job)

    return inject


def flip_a_byte(job):
    """Flips one bit of a byte in the newest checkpoint's weights."""
    offset = newest_weights(job).stat().st_size // 2
    with newest_weights(job).open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def cut_short(job):
    """Removes the last byte of the newest checkpoint's weights."""
    os.truncate(newest_weights(job), newest_weights(job).stat().st_size - 1)


def remove_weights(job):
    """Removes the newest checkpoint's weights."""
    newest_weights(job).unlink()


def remove_manifest(job):
    """Removes the newest checkpoint's manifest."""
    newest_weights(job).with_name("manifest.json").unlink()


def tear_a_line(job):
    """Appends an incomplete line to metrics.jsonl."""
    with (job.run_dir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 100000, "train/lo')


def fill_the_disk(job):
    """Makes one save fail, lifts the limit, and sends SIGTERM."""
    rank = job.pid("rank 0")
    _, hard = resource.prlimit(rank, resource.RLIMIT_FSIZE)
    resource.prlimit(rank, resource.RLIMIT_FSIZE, (SMALL_FILE, hard))
    job.wait_until(lambda: FAILED_SAVE in job.output())
    resource.prlimit(rank, resource.RLIMIT_FSIZE, (hard, hard))
    job.send(signal.SIGTERM, "rank 0")


@contextmanager
def damaged(shards):
    """Flips bytes in all shards, and restores them on exit."""
    flip_bytes(shards)
    try:
        yield
    finally:
        flip_bytes(shards)


def flip_bytes(shards):
    for shard in shards.glob("*.tar"):
        content = bytearray(shard.read_bytes())
        content[2048::4096] = bytes(byte ^ 255 for byte in content[2048::4096])
        with shard.open("r+b") as file:  # in place: the job has the file open
            file.write(content)


def folder_of_checkpoints(job):
    return job.run_dir / "checkpoints"


def newest_checkpoint(job):
    return max(folder_of_checkpoints(job).glob("step-*"), default=None)


def newest_weights(job):
    return newest_checkpoint(job) / "mp_rank_00_model_states.pt"
