"""Inflicts faults on a training, one after another, and looks at what is lost.

    python tests/run_drill.py --output drill_output

A short training is started by the real launcher and hit by a fault at a random step, from outside;
then the same command is started again, until no fault is left. An undisturbed run of the same
settings says what every loss and the last weights must be. Nothing in the training is patched.
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
STEPS_PER_FAULT = 4 * SAVE_EVERY  # a life passes one checkpoint, and goes on until it is hit
SETTINGS = [
    "configs/stereo.yaml", "data.height=64", "data.width=96", "data.num_workers=1",
    "data.prefetch_batches=2", "network.weights=scratch", "precision.dtype=fp32",
    "optim.micro_batch_size=2", "optim.num_epochs=10000", f"checkpoint.every_steps={SAVE_EVERY}",
    "checkpoint.keep=2", "log.every_steps=1", "log.pictures_every_steps=0", "log.hang_timeout_s=20",
]  # fmt: skip


class Outcome(NamedTuple):
    """What came of a fault."""

    fault: str
    happened: str
    num_lost: int  # steps
    is_same: bool  # all losses up to here are those of the undisturbed run
    problems: list[str]

    def __str__(self) -> str:
        same = "yes" if self.is_same else "NO"
        happened = " ".join([self.happened, *(f"**{problem}**" for problem in self.problems)])
        return f"| {self.fault} | {happened} | {self.num_lost} | {same} |"


def main() -> None:
    """Runs the drill; exit code 1 if anything was lost that should not have been."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("drill_output"), help="a new folder")
    parser.add_argument("--seed", type=int, default=0, help="of the faults' order and moments")
    parser.add_argument("--only", default="", help="faults whose name holds these words")
    options = parser.parse_args()
    output = options.output.resolve()
    if (output / "disturbed").exists():
        parser.exit(2, f"error: {output} holds an earlier drill; remove it\n")
    generator = random.Random(options.seed)
    shards = make_shards(output)
    faults = [fault for fault in list_faults(shards) if options.only in fault.name]
    generator.shuffle(faults)
    max_steps = STEPS_PER_FAULT * (len(faults) + 1)
    words = [*SETTINGS, f"data.train_shards={shards}", f"optim.max_steps={max_steps}"]
    print(f"{len(faults)} faults, seed {options.seed}; first a run that nothing happens to")
    undisturbed, disturbed = output / "undisturbed", output / "disturbed"
    finish(RunningJob(undisturbed, [*words, "checkpoint.every_steps=null"]))
    losses = read_losses(undisturbed)
    outcomes = []
    for fault in faults:
        outcomes.append(inflict(fault, disturbed, words, losses, generator))
        print(outcomes[-1], flush=True)
    finish(RunningJob(disturbed, words))
    is_same_end = have_same_state(undisturbed, disturbed) and read_losses(disturbed) == losses
    table = make_table(outcomes, is_same_end)
    (output / "drill.md").write_text(table)
    print(f"\n{table}")
    sys.exit(0 if is_same_end and not any(outcome.problems for outcome in outcomes) else 1)


def make_shards(output: Path) -> Path:
    """Renders one drive and packs it."""
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
    """Runs a tool; the drill ends where it fails."""
    command = [sys.executable, str(ROOT / "shard_tools" / script), *map(str, words)]
    subprocess.run(command, check=True, capture_output=True)


def finish(job: RunningJob) -> None:
    """Lets a job come to its end."""
    code, output = job.wait_for_end(seconds=1800)
    assert code == 0, output


def inflict(
    fault: Fault,
    run_dir: Path,
    words: list[str],
    losses: dict[int, float],
    generator: random.Random,
) -> Outcome:
    """Starts the run, inflicts the fault between two checkpoints, and looks at what is left."""
    start = max(find_position(run_dir), SAVE_EVERY)  # two checkpoints are there when it is hit
    started = time.time()
    job = RunningJob(run_dir, words, **dict(fault.environment))
    moment = start - start % SAVE_EVERY + SAVE_EVERY + 1 + generator.randrange(SAVE_EVERY - 1)

    def is_moment() -> bool:
        status = job.status()  # at first that of the life before
        return status.get("time", 0) > started and status["step"] >= moment

    problems = []
    try:
        job.wait_until(is_moment)
        inflicted = time.monotonic()
        fault.inflict(job)
        code, _ = job.wait_for_end(seconds=120)
        happened = f"exit code {code} after {time.monotonic() - inflicted:.0f} s"
    except AssertionError:
        happened = "no end"
        problems.append("processes were left behind")
    finally:
        job.kill()
    status, now = job.status(), read_losses(run_dir)
    num_lost = max(now) - find_position(run_dir)
    was_saved = fault.status == "preempted"
    allowed = 0 if was_saved else SAVE_EVERY * (1 + fault.num_lost_checkpoints)
    if not 0 <= num_lost <= allowed:
        problems.append(f"{allowed} steps at most should have been lost")
    if status["status"] != fault.status:
        problems.append(f"status should be {fault.status}")
    is_same = now == {step: losses[step] for step in range(1, max(now) + 1)}
    if not is_same:
        problems.append("losses differ from those of the undisturbed run")
    message = f": {status['message']}" if "message" in status else ""
    happened = f"{status['status']}, {happened}{message}".replace(f"{run_dir.parent}/", "")
    return Outcome(fault.name, happened, num_lost, is_same, problems)


def find_position(run_dir: Path) -> int:
    """Finds the step from which a run would go on."""
    found = find_checkpoint(run_dir / "checkpoints")
    return found[1]["step"] if found else 0


def read_losses(run_dir: Path) -> dict[int, float]:
    """Reads the loss of every step that a run's log holds a whole line of."""
    losses = {}
    for line in (run_dir / "metrics.jsonl").read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # torn by a fault
            continue
        losses[entry["step"]] = entry["train/loss"]
    return losses


def have_same_state(first: Path, second: Path) -> bool:
    """Compares the last checkpoints of two runs bit for bit: weights, buffers and moments."""
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
    """Makes a Markdown table of all outcomes."""
    head = "| fault | what happened | steps lost | same losses |\n| --- | --- | ---: | --- |\n"
    end = "the same weights, bit for bit, as" if is_same_end else "OTHER WEIGHTS THAN"
    rows = "".join(f"{outcome}\n" for outcome in outcomes)
    return f"{head}{rows}\nAfter {len(outcomes)} faults: {end} a run without any.\n"


if __name__ == "__main__":
    main()
