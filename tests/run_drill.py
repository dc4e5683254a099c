"""Fault drill: injects faults into a training one by one and reports the steps lost.

    python tests/run_drill.py --output drill_output

The launcher starts a short training, into which a fault is injected from outside, at a random
moment. The same command is then started again for the next fault. An undisturbed run with the same
settings gives the expected losses and final weights. Nothing in the training is patched.
"""

import argparse
import json
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch
from helpers.drill_faults import Fault, list_faults
from helpers.running_job import ROOT, RunningJob
from helpers.wandb_files import history_of, records_of

from md2dist.runs.checkpoint_folder import find_checkpoint

SAVE_EVERY = 5
STEPS_PER_FAULT = 4 * SAVE_EVERY  # each start saves a checkpoint and runs until its fault
LONGEST_STEP_S = 0.5
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
    parser.add_argument(
        "--only", default="", help="run only faults whose name matches this regular expression"
    )
    parser.add_argument(
        "--repeats", type=int, default=1, help="number of times that each fault is injected"
    )
    parser.add_argument(
        "--accumulation", type=int, default=1, help="micro-batches per rank and step"
    )
    options = parser.parse_args()
    output = options.output.resolve()
    if (output / "disturbed").exists():
        parser.exit(2, f"error: {output} contains an earlier drill; remove it\n")
    generator = random.Random(options.seed)
    shards = make_shards(output)
    faults = [fault for fault in list_faults(shards) if re.search(options.only, fault.name)]
    faults *= options.repeats
    generator.shuffle(faults)
    max_steps = STEPS_PER_FAULT * (len(faults) + 1)
    words = [*SETTINGS, f"data.train_shards={shards}", f"optim.max_steps={max_steps}",
             f"optim.grad_accum_steps={options.accumulation}"]  # fmt: skip
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
    job = RunningJob(run_dir, words, wrapper=fault.wrapper, **dict(fault.environment))
    fault_step = start - start % SAVE_EVERY + SAVE_EVERY + 1 + generator.randrange(SAVE_EVERY - 1)

    def has_reached_step() -> bool:
        status = job.status()  # at first that of the previous start
        return status.get("time", 0) > started and status["step"] >= fault_step

    problems = []
    try:
        job.wait_until(has_reached_step, seconds=600)
        time.sleep(generator.uniform(0, LONGEST_STEP_S))  # anywhere within a step
        injected = time.monotonic()
        fault.inject(job)
        code, _ = job.wait_for_end(seconds=300)
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
    if was_saved:
        problems += find_faults_of_output(job, status["step"])
    if was_saved and fault.has_wandb:
        problems += find_faults_of_wandb(run_dir, status["step"])
    is_same = now == {step: losses[step] for step in range(1, max(now) + 1)}
    if not is_same:
        problems.append("losses differ from those of the undisturbed run")
    message = f": {status['message']}" if "message" in status else ""
    happened = f"{status['status']}, {happened}{message}".replace(f"{run_dir.parent}/", "")
    return Outcome(fault.name, happened, num_lost, is_same, problems)


def find_faults_of_output(job: RunningJob, step: int) -> list[str]:
    """Lists what is wrong with the terminal output of a run that was stopped and saved."""
    output, problems = job.output(), []
    if f"saved at step {step}; the same command resumes" not in output:
        problems.append("the last line is missing")
    frames = [line for line in output.splitlines() if line.startswith('  File "')]
    if any(
        re.search("/(md2dist|launch|wandb)/", line) for line in frames if "deepspeed" not in line
    ):
        problems.append("a traceback of ours or W&B's")
    return problems


def find_faults_of_wandb(run_dir: Path, step: int) -> list[str]:
    """Lists what is missing in W&B's offline file of the latest start."""
    path = max((run_dir / "logs" / "wandb").glob("offline-run-*/*.wandb"))
    records = records_of(path)
    steps = [row["_step"] for row in history_of(records)]
    problems = []
    if not steps or steps != list(range(steps[0], step + 1)):
        problems.append(f"W&B has steps {steps[:1]} to {steps[-1:]}")
    if not any(record.HasField("exit") for record in records):
        problems.append("W&B has no exit code")
    return problems


def find_position(run_dir: Path) -> int:
    """Returns the step from which a run would resume."""
    found = find_checkpoint(run_dir / "checkpoints")
    return found.state.step if found else 0


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
