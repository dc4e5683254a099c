"""Summary of a run at its end: metrics of its best and last checkpoint, files, next commands."""

import shlex
from pathlib import Path

from md2dist.config import Config
from md2dist.runs.checkpoint_folder import find_best, read_validation
from md2dist.runs.checkpoint_names import name_of, step_of
from md2dist.runs.progress import show_time
from md2dist.storage.open_store import is_url
from md2dist.training.loop import TrainingEnd

_METRICS = ("abs_rel", "sq_rel", "rmse", "a1")


def summarise_run(config: Config, step: int, end: TrainingEnd, seconds: float) -> list[str]:
    """Returns the lines that end the log of a run.

    Args:
        config: all settings.
        step: optimizer steps taken.
        end: how the training ended.
        seconds: time since this start of the run.
    """
    if not end.is_finished:
        return [f"saved at step {step}; the same command resumes"]
    run_dir = config.log.run_dir
    folder = Path(run_dir) / "checkpoints"
    best, last = find_best(folder), folder / name_of(step)
    reason = f": {end.early_end}" if end.early_end else ""
    lines = [f"finished at step {step} after {show_time(seconds)}{reason}"]
    if best is not None and best != last:
        lines.append(f"best      {_describe(best)}")
    lines.append(f"last      {_describe(last)}{', the best' if best == last else ''}")
    lines.append(f"files     {run_dir}: metrics.jsonl, config.yaml, checkpoints, logs")
    chosen = str(folder / "best") if best is not None else run_dir
    shards = config.data.val_shards[0] if config.data.val_shards else "SHARDS"
    shards = "SHARDS" if is_url(shards) else shards
    evaluate = ["md2dist", "evaluate", "--checkpoint", chosen, "--shards", shards]
    predict = ["md2dist", "predict", "--checkpoint", chosen, "--input", "IMAGES", "--output", "DIR"]
    report = ["md2dist", "report", run_dir, "--output", f"{Path(run_dir).name}.html"]
    commands = {"evaluate": evaluate, "predict": predict, "report": report}
    return [*lines, *(f"{name:<9} {shlex.join(words)}" for name, words in commands.items())]


def _describe(checkpoint: Path) -> str:
    """Describes the step and the metrics of a checkpoint."""
    metrics = read_validation(checkpoint)
    figures = (
        ", ".join(f"{name} {metrics[name]:.4f}" for name in _METRICS if name in metrics)
        if metrics
        else "not validated"
    )
    return f"step {step_of(checkpoint.name)}: {figures}"
