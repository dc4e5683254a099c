"""What a run tells: metrics.jsonl, status.json, pictures, W&B and the progress bar."""

import json
import sys
import time
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from md2dist.training.wandb_log import WandbLog


class RunLog:
    """The voice of the main rank; every method is silent where `is_main` is false.

    Args:
        run_dir: the run's folder.
        wandb: the W&B run (a disabled one on the other ranks).
        is_main: whether this process writes.
        first_step: position at which the run goes on; later lines of an earlier life are dropped.
        last_step: position at which it ends.
    """

    def __init__(
        self, run_dir: Path, wandb: WandbLog, is_main: bool, first_step: int, last_step: int
    ):
        self._run_dir, self._wandb, self._is_main = run_dir, wandb, is_main
        self._step = first_step
        if not is_main:
            return
        self._metrics_path = run_dir / "metrics.jsonl"
        (run_dir / "logs").mkdir(parents=True, exist_ok=True)
        _drop_lines_after(self._metrics_path, first_step)
        self._file = self._metrics_path.open("a", buffering=1)
        self._bar = tqdm(
            total=last_step,
            initial=first_step,
            unit="step",
            dynamic_ncols=True,
            mininterval=0.5 if sys.stderr.isatty() else 30.0,
        )
        self.write_status("running")

    def advance(self, step: int) -> None:
        """Moves the progress bar to `step` finished steps."""
        self._step = step
        if self._is_main:
            self._bar.update(step - self._bar.n)

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Writes one line of metrics.jsonl, the same to W&B, and the essence to the bar.

        Values that are not finite become null, which JSON knows.
        """
        if not self._is_main:
            return
        finite = {name: value if isfinite(value) else None for name, value in metrics.items()}
        self._file.write(json.dumps({"step": step, "time": round(time.time(), 3), **finite}) + "\n")
        self._wandb.log(metrics, step)
        if "train/loss" in metrics:
            self._bar.set_postfix_str(
                f"loss {metrics['train/loss']:.4f}, {metrics['train/samples_per_second']:.1f} "
                "samples/s",
                refresh=False,
            )
        self.write_status("running")

    def log_picture(self, name: str, picture: np.ndarray, step: int) -> None:
        """Keeps a (H, W, 3) uint8 picture in logs/ and shows it in W&B."""
        if not self._is_main:
            return
        from PIL import Image

        path = self._run_dir / "logs" / f"{name.replace('/', '-')}-{step:08d}.png"
        Image.fromarray(picture).save(path)
        self._wandb.log_picture(name, picture, step)

    def write_status(self, state: str, message: str = "") -> None:
        """Replaces status.json: running, preempted, finished or failed, and the step."""
        if not self._is_main:
            return
        status: dict[str, Any] = {
            "status": state,
            "step": self._step,
            "time": round(time.time(), 3),
        }
        if message:
            status["message"] = message
        temporary = self._run_dir / ".status.json"
        temporary.write_text(json.dumps(status) + "\n")
        temporary.replace(self._run_dir / "status.json")

    def close(self, state: str, message: str = "") -> None:
        """Ends the log with the run's last state."""
        if not self._is_main:
            return
        self.write_status(state, message)
        self._bar.close()
        self._file.close()
        self._wandb.finish(exit_code=0 if state in ("finished", "preempted") else 1)


def _drop_lines_after(path: Path, step: int) -> None:
    """Removes lines that a killed run wrote after its last checkpoint."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        try:
            is_kept = json.loads(line)["step"] <= step
        except (ValueError, KeyError):  # a line cut short by the kill
            is_kept = False
        if is_kept:
            kept.append(line)
    temporary = path.with_name("." + path.name)
    temporary.write_text("".join(kept))
    temporary.replace(path)
