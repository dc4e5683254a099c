"""Fault drill: injects faults into a training one by one and reports the steps lost.

    python tests/run_drill.py --output drill_output

The launcher starts a short training, into which a fault is injected from outside at a random step.
The same command is then started again for the next fault. An undisturbed run with the same settings
gives the expected losses and final weights. Nothing in the training is patched.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch
from helpers.drill_faults import Fault, list_faults
from helpers.running_job import ROOT, RunningJob

from md2dist.runs.checkpoint_folder import find_checkpoint

SAVE_EVERY = 5
STEPS_PER_FAULT = 4 * SAVE_EVERY  # each start saves a checkpoint and runs until its fault
SETTINGS = [
    "configs/stereo.yaml", "data.height=64", "data.width=96", "data.num_workers=1",
    "data.prefetch_batches=2", "network.weights=scratch", "precision.dtype=fp32",
    "optim.micro_batch_size=2", "optim.num_epochs=10000", f"checkpoint.every_steps={SAVE_EVERY}",
    "checkpoint.keep=2", "log.every_steps=1", "log.pictures_every_steps=0", "log.hang_timeout_s=20",
]  # fmt: skip


class Outcome(NamedTuple):
    """Outcome of one fault."""

    fault: str
    happened: str
    num_lost: int  # steps
    is_same: bool  # whether all losses so far equal those of the undisturbed run
    problems: list[str]

    def __str__(self) -> str:
        same = "yes" if self.is_same else "NO"
        happened = " ".join([self.happened, *(f"**{problem}**" for problem in self.problems)])
        return f"| {self.fault} | {happened} | {self.num_lost} | {same} |"


def main() -> None:
    """Runs the drill; exit code 1 if more was lost than allowed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output", type=Path, default=Path("drill_output"), help="new folder for all results"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the order and times of the faults"
    )
    parser.add_argument("--only", default="", help="run only faults whose name contains this text")
    options = parser.parse_args()
    output = options.output.resolve()
    if (output / "disturbed").exists():
        parser.exit(2, f"error: {output} contains an earlier drill; remove it\n")
    generator = random.Random(options.seed)
    shards = make_shards(output)
    faults = [fault for fault in list_faults(shards) if options.only in fault.name]
    generator.shuffle(faults)
    max_steps = STEPS_PER_FAULT * (len(faults) + 1)
    words = [*SETTINGS, f"data.train_shards={shards}", f"optim.max_steps={max_steps}"]
    print(f"{len(faults)} faults, seed {options.seed}; starting with an undisturbed run")
    undisturbed, disturbed = output / "undisturbed", output / "disturbed"
    finish(RunningJob(undisturbed, [*words, "checkpoint.every_steps=null"]))
    losses = read_losses(undisturbed)
    outcomes = []
    for fault in faults:
        outcomes.append(inject(fault, disturbed, words, losses, generator))
        print(outcomes[-1], flush=True)
    finish(RunningJob(disturbed, words))
    is_same_end = have_same_state(undisturbed, disturbed) and read_losses(disturbed) == losses
    table = make_table(outcomes, is_same_end)
    (output / "drill.md").write_text(table)
    print(f"\n{table}")
    sys.exit(0 if is_same_end and not any(outcome.problems for outcome in outcomes) else 1)


def make_shards(output: Path) -> Path:
    """Renders one drive, packs it and returns the folder of shards."""
    kitti, shards = output / "kitti", output / "shards"
    call("make_synthetic_kitti.py", "--output", kitti, "--drives", 1, "--frames", 40,
         "--width", 192, "--height", 128, "--scan-every", 0)  # fmt: skip
    drive = next(kitti.glob("*/*_sync")).relative_to(kitti)
    split = output / "split.txt"
    split.write_text("".join(f"{drive} {frame} {side}\n" for frame in range(40) for side in "lr"))
    call("make_shards.py", "--kitti-root", kitti, "--split", split, "--output", shards,
         "--height", 64, "--width", 96, "--frame-offsets", "--stereo",
         "--samples-per-shard", 16)  # fmt: skip
    return shards


def call(script: str, *words: object) -> None:
    """Runs a tool; raises an error if it fails."""
    command = [sys.executable, str(ROOT / "shard_tools" / script), *map(str, words)]
    subprocess.run(command, check=True, capture_output=True)


def finish(job: RunningJob) -> None:
    """Waits for a job, which must succeed."""
    code, output = job.wait_for_end(seconds=1800)
    assert code == 0, output


def inject(
    fault: Fault,
    run_dir: Path,
    words: list[str],
    losses: dict[int, float],
    generator: random.Random,
) -> Outcome:
    """Starts the run, injects the fault between two checkpoints, and checks the result."""
    start = max(find_position(run_dir), SAVE_EVERY)  # two checkpoints exist before the fault
    started = time.time()
    job = RunningJob(run_dir, words, **dict(fault.environment))
    fault_step = start - start % SAVE_EVERY + SAVE_EVERY + 1 + generator.randrange(SAVE_EVERY - 1)

    def has_reached_step() -> bool:
        status = job.status()  # at first that of the previous start
        return status.get("time", 0) > started and status["step"] >= fault_step

    problems = []
    try:
        job.wait_until(has_reached_step)
        injected = time.monotonic()
        fault.inject(job)
        code, _ = job.wait_for_end(seconds=120)
        happened = f"exit code {code} after {time.monotonic() - injected:.0f} s"
    except AssertionError:
        happened = "did not end"
        problems.append("processes were still running")
    finally:
        job.kill()
    status, now = job.status(), read_losses(run_dir)
    num_lost = max(now) - find_position(run_dir)
    was_saved = fault.status == "preempted"
    allowed = 0 if was_saved else SAVE_EVERY * (1 + fault.num_lost_checkpoints)
    if not 0 <= num_lost <= allowed:
        problems.append(f"expected <= {allowed} lost steps")
    if status["status"] != fault.status:
        problems.append(f"expected status {fault.status}")
    is_same = now == {step: losses[step] for step in range(1, max(now) + 1)}
    if not is_same:
        problems.append("losses differ from those of the undisturbed run")
    message = f": {status['message']}" if "message" in status else ""
    happened = f"{status['status']}, {happened}{message}".replace(f"{run_dir.parent}/", "")
    return Outcome(fault.name, happened, num_lost, is_same, problems)


def find_position(run_dir: Path) -> int:
    """Returns the step from which a run would resume."""
    found = find_checkpoint(run_dir / "checkpoints")
    return found[1]["step"] if found else 0


def read_losses(run_dir: Path) -> dict[int, float]:
    """Reads the losses by step from the complete lines of a run's metrics.jsonl."""
    losses = {}
    for line in (run_dir / "metrics.jsonl").read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # truncated by a fault
            continue
        losses[entry["step"]] = entry["train/loss"]
    return losses


def have_same_state(first: Path, second: Path) -> bool:
    """Returns whether the last checkpoints hold bit-identical weights, buffers and moments."""
    states = []
    for run_dir in (first, second):
        path = max((run_dir / "checkpoints").glob("step-*")) / "mp_rank_00_model_states.pt"
        state = torch.load(path, weights_only=True)
        moments = state["optimizer"]["state"]
        flat = {f"{number}.{name}": moments[number][name] for number in moments
                for name in moments[number]}  # fmt: skip
        states.append(state["module"] | flat)
    one, other = states
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def make_table(outcomes: list[Outcome], is_same_end: bool) -> str:
    """Returns a Markdown table of all outcomes."""
    head = "| fault | outcome | steps lost | same losses |\n| --- | --- | ---: | --- |\n"
    end = "the same weights, bit for bit, as" if is_same_end else "OTHER WEIGHTS THAN"
    rows = "".join(f"{outcome}\n" for outcome in outcomes)
    return f"{head}{rows}\nAfter {len(outcomes)} faults: {end} a run without faults.\n"


if __name__ == "__main__":
    main()
