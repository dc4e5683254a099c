"""Checkpoint folder of a run: the newest, the best and the damaged checkpoints.

Each checkpoint is a folder `step-N` with a manifest: the resume state and a sha256 per file. A
damaged one is skipped with a warning. The file `latest` names the newest, the link `best` points to
the one with the best depth in validation.
"""

import hashlib
import json
import logging
import os
import shutil
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from md2dist.errors import CheckpointError
from md2dist.runs.resume_state import ResumeState
from md2dist.storage.atomic import atomic_write

logger = logging.getLogger(__name__)

MANIFEST_NAME = "manifest.json"
_VALIDATION_NAME = "validation.json"  # written after the manifest, so not listed in it


class Checkpoint(NamedTuple):
    """An undamaged checkpoint."""

    folder: Path
    state: ResumeState


def list_checkpoints(folder: Path) -> list[Path]:
    """Lists the complete checkpoints of a run, newest first."""
    return sorted(folder.glob("step-*"), reverse=True)


def find_checkpoint(folder: Path) -> Checkpoint | None:
    """Finds the newest undamaged checkpoint of a run.

    Args:
        folder: the run's `checkpoints` folder; it may not exist.

    Returns:
        The checkpoint, or None if the run has none.

    Raises:
        CheckpointError: if there are checkpoints and all of them are damaged.
    """
    candidates = list_checkpoints(folder)
    for candidate in candidates:
        try:
            return Checkpoint(candidate, verify_checkpoint(candidate))
        except CheckpointError as error:
            logger.warning("%s; falling back to the previous checkpoint", error)
    if candidates:
        raise CheckpointError(
            f"all {len(candidates)} checkpoints in {folder} are damaged; restore one, or start "
            "over with checkpoint.resume=never"
        )
    return None


def verify_checkpoint(checkpoint: Path) -> ResumeState:
    """Compares every file of a checkpoint with its manifest.

    Returns:
        The resume state saved with the checkpoint.

    Raises:
        CheckpointError: if a file is missing or differs; the message names the first one.
    """
    try:
        manifest = json.loads((checkpoint / MANIFEST_NAME).read_text())
        state, files = ResumeState.from_json(manifest["facts"]), manifest["files"]
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(f"{checkpoint} has no readable {MANIFEST_NAME}") from None
    for name, expected in files.items():
        path = checkpoint / name
        if not path.is_file():
            raise CheckpointError(f"{checkpoint} is damaged: {name} is missing")
        if path.stat().st_size != expected["bytes"] or _hash(path) != expected["sha256"]:
            raise CheckpointError(
                f"{path} is damaged: its content differs from the sha256 in {MANIFEST_NAME}"
            )
    return state


def publish_checkpoint(partial: Path, state: ResumeState, keep: int) -> Path:
    """Publishes a written checkpoint under its final name and removes obsolete checkpoints.

    Writes the manifest, then renames the folder. Obsolete are older checkpoints beyond `keep`, and
    damaged ones of later steps, which are being repeated.

    Args:
        partial: the folder in which it was written, beside the final one.
        state: the resume state.
        keep: number of newest checkpoints to keep, in addition to the best one.

    Returns:
        The checkpoint's folder.

    Raises:
        OSError: if a write fails; then there is no checkpoint of this step.
    """
    folder = partial.parent
    final = folder / name_of(state.step)
    _seal(partial, state)
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    _sync_folder(folder)
    try:
        atomic_write(folder / "latest", f"{final.name}\n".encode())
    except OSError as error:
        logger.warning("%s could not be written: %s", folder / "latest", error.strerror)
    for later in [path for path in list_checkpoints(folder) if path > final]:
        shutil.rmtree(later, ignore_errors=True)
    best = find_best(folder)
    for old in list_checkpoints(folder)[keep:]:
        if old != best:
            shutil.rmtree(old, ignore_errors=True)
    return final


def name_of(step: int) -> str:
    """Returns the folder name of the checkpoint of a step."""
    return f"step-{step:08d}"


def note_validation(checkpoint: Path, metrics: dict[str, float]) -> None:
    """Writes validation metrics into a checkpoint and updates the link `best`.

    Raises:
        OSError: if a write fails.
    """
    atomic_write(checkpoint / _VALIDATION_NAME, json.dumps(metrics).encode())
    best = find_best(checkpoint.parent)
    if best is not None:
        link = checkpoint.parent / ".best"
        link.unlink(missing_ok=True)
        link.symlink_to(best.name)
        link.replace(checkpoint.parent / "best")


def read_validation(checkpoint: Path) -> dict[str, float] | None:
    """Reads the metrics that `note_validation` wrote; None if the checkpoint was not validated."""
    try:
        return json.loads((checkpoint / _VALIDATION_NAME).read_text())
    except (OSError, ValueError):
        return None


def find_best(folder: Path) -> Path | None:
    """Finds the validated checkpoint with the lowest abs_rel; of equal ones, the oldest."""
    scores = {}
    for checkpoint in reversed(list_checkpoints(folder)):
        metrics = read_validation(checkpoint)
        if metrics is not None and isfinite(metrics["abs_rel"]):
            scores[checkpoint] = metrics["abs_rel"]
    return min(scores, key=scores.__getitem__, default=None)


def _seal(partial: Path, state: ResumeState) -> None:
    """Flushes every file to the disk and writes the manifest last."""
    files = {}
    for path in sorted(partial.iterdir()):
        files[path.name] = {"bytes": path.stat().st_size, "sha256": _hash(path)}
        _sync_file(path)
    manifest = {"facts": state.to_json(), "files": files}
    atomic_write(partial / MANIFEST_NAME, json.dumps(manifest, indent=1).encode())
    _sync_folder(partial)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
