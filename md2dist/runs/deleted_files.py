"""Detection of a run's files that someone deletes or replaces while it trains."""

from pathlib import Path
from typing import IO

from md2dist.storage.locks import is_same_file


def list_missing(run_dir: Path, metrics_file: IO[str]) -> list[str]:
    """Lists the files of a run that are no longer there.

    Args:
        run_dir: the run's folder.
        metrics_file: its open `metrics.jsonl`.
    """
    is_there = {
        "config.yaml": (run_dir / "config.yaml").exists(),
        "metrics.jsonl": is_same_file(metrics_file, run_dir / "metrics.jsonl"),
    }
    return [name for name, exists in is_there.items() if not exists]


def belongs_to_another_run(run_dir: Path, metrics_file: IO[str]) -> bool:
    """Returns whether another run has started in the folder since this one's was deleted."""
    path = run_dir / "metrics.jsonl"
    return path.exists() and not is_same_file(metrics_file, path)
