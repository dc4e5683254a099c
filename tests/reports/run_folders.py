"""Folders of runs as a training leaves them, written in milliseconds."""

import json
import math

import numpy as np
from helpers.checkpoints import resume_state, write_checkpoint

from md2dist.config import dump_config, load_config
from md2dist.runs.start_log import Start, append_start, list_versions
from md2dist.runs.status_file import Status
from md2dist.runs.validation_panels import write_panel

NOW = 1_800_000_000.0  # s since 1970
VALIDATION = {"abs_rel": 0.2, "sq_rel": 1.5, "rmse": 6.0, "rmse_log": 0.3, "a1": 0.7, "a2": 0.9,
              "a3": 0.95}  # fmt: skip
CARD = {"folder": "shards/train", "split": "eigen_zhou/train", "samples": "400 in 4 shards"}


def write_run(folder, steps=range(1, 101), last_step=200, words=(), losses=None, **status):
    """Writes a run of one step per second and 50 steps per epoch; returns its folder.

    Args:
        folder: of the run.
        steps: those in metrics.jsonl.
        last_step: of the whole run.
        words: overrides of the settings.
        losses: maps a step to its loss.
        **status: fields of status.json, other than those of a run that is training.
    """
    (folder / "logs").mkdir(parents=True)
    config = load_config([], [f"log.run_dir={folder}", "data.use_stereo=true", *words])
    (folder / "config.yaml").write_text(
        "# resolved at the last start: precision.dtype=bf16 ranks=2\n" + dump_config(config)
    )
    begin = NOW - len(steps) - 10
    losses = losses or (lambda step: 0.1 + 0.1 * math.exp(-step / 30))
    with (folder / "metrics.jsonl").open("w") as file:
        for number, step in enumerate(steps):
            values = metrics_of(step, losses(step))
            file.write(json.dumps({"step": step, "time": begin + number, **values}) + "\n")
    found = {"status": "running", "step": steps[-1] if steps else 0, "time": NOW - 5,
             "activity": f"at step {steps[-1] if steps else 0}", "activity_s": 0.2}  # fmt: skip
    (folder / "status.json").write_text(json.dumps(found | status))
    add_start(folder, time=begin, last_step=last_step)
    return folder


def metrics_of(step, loss):
    """Returns the metrics of a line of training."""
    scales = {f"train/loss_scale_{scale}": loss and loss * (1 + scale / 10) for scale in range(4)}
    return {"epoch": (step - 1) // 50, "train/loss": loss, **scales, "train/gradient_norm": 0.4,
            "train/skipped_steps": 0, "train/lr": 1e-4 if step < 150 else 1e-5,
            "train/samples_per_second": 80.0 + step % 7, "train/data_wait": 0.02}  # fmt: skip


def add_start(folder, **values):
    """Appends a start to those of a run."""
    start = {
        "time": NOW, "first_step": 0, "last_step": 200, "steps_per_epoch": 50,
        "global_batch_size": 12, "num_ranks": 2, "node_size": 2, "host": "node7",
        "devices": "2 x CPU, 2 on this node", "folder": "/home/me",
        "command": ["--config", "configs/mono_stereo.yaml", f"log.run_dir={folder}"],
        "versions": list_versions(), "train_shards": CARD,
    }  # fmt: skip
    append_start(folder, Start(**(start | values)))


def add_restart(folder, step, status="preempted", message=""):
    """Records that the run ended at a step, and a start that resumed there."""
    add_start(folder, first_step=step, before=Status(status, step, NOW - 500, message))


def add_validation(folder, step, abs_rel, with_panels=True):
    """Adds a validated checkpoint, its line of metrics, and pictures of two images."""
    scores = VALIDATION | {"abs_rel": abs_rel}
    checkpoint = write_checkpoint(folder / "checkpoints", resume_state(step))
    (checkpoint / "validation.json").write_text(json.dumps(scores))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines.append({"step": step, "time": NOW - 30, **{f"val/{k}": v for k, v in scores.items()}})
    lines.sort(key=lambda line: line["step"])
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    for number in range(2 * with_panels):
        levels = np.linspace(0, 255, 416, dtype=np.uint8)[None, :, None]
        picture = np.broadcast_to(levels, (375, 416, 3)).copy()
        picture[:, : step % 416, number] //= 2
        write_panel(folder, number, step, picture)
