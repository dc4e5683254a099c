"""How fault_injection are inflicted on a running job, from outside."""

import os
import resource
import signal
from contextlib import contextmanager, suppress

from helpers.running_job import processes_of

SMALL_FILE = 1 << 20  # bytes; the log fits, a checkpoint does not
FAILED_SAVE = "no checkpoint could be saved"


def signal_to(name, number):
    """Sends a signal to one of the job's processes."""
    return lambda job: job.send(number, name)


def press_ctrl_c(job):
    """Does what a terminal does: SIGINT to all processes."""
    for pid in processes_of(job.pid("deepspeed")):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)


def ask_again_and_again(job):
    """Asks to stop, and goes on asking until the checkpoint is there."""
    ranks = [job.pid("rank 0"), job.pid("rank 1")]
    before = newest_checkpoint(job)

    def ask():
        for rank in ranks:
            with suppress(ProcessLookupError):
                os.kill(rank, signal.SIGTERM)
                os.kill(rank, signal.SIGUSR1)
        return newest_checkpoint(job) != before

    job.wait_until(ask)


def kill_wandb(job):
    """Kills the process of W&B, looks whether steps follow, and asks to stop."""
    job.send(signal.SIGKILL, "wandb")
    step = job.status()["step"]
    job.wait_until(lambda: job.status()["step"] > step + 1)
    job.send(signal.SIGTERM, "rank 0")


def cut_power(job):
    """Ends all processes at once."""
    job.kill()


def cut_power_while_saving(job):
    """Ends all processes when a checkpoint is half written."""
    job.wait_until(lambda: any(folder_of_checkpoints(job).glob(".partial-*/*.pt")))
    job.kill()


def cut_power_and(damage):
    """Ends all processes, then does damage to the run's folder."""

    def inflict(job):
        job.kill()
        damage(job)

    return inflict


def flip_a_byte(job):
    """Changes one byte of the newest checkpoint's weights."""
    place = newest_weights(job).stat().st_size // 2
    with newest_weights(job).open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))


def cut_short(job):
    """Takes away the last byte of the newest checkpoint's weights."""
    os.truncate(newest_weights(job), newest_weights(job).stat().st_size - 1)


def remove_weights(job):
    """Removes the newest checkpoint's weights."""
    newest_weights(job).unlink()


def remove_manifest(job):
    """Removes the newest checkpoint's manifest."""
    newest_weights(job).with_name("manifest.json").unlink()


def tear_a_line(job):
    """Leaves half a line at the end of the log."""
    with (job.run_dir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 100000, "train/lo')


def fill_the_disk(job):
    """Lets one save fail, makes room again, and asks to stop."""
    rank = job.pid("rank 0")
    _, hard = resource.prlimit(rank, resource.RLIMIT_FSIZE)
    resource.prlimit(rank, resource.RLIMIT_FSIZE, (SMALL_FILE, hard))
    job.wait_until(lambda: FAILED_SAVE in job.output())
    resource.prlimit(rank, resource.RLIMIT_FSIZE, (hard, hard))
    job.send(signal.SIGTERM, "rank 0")


@contextmanager
def damaged(shards):
    """Flips bytes in all shards, and flips them back in the end."""
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
