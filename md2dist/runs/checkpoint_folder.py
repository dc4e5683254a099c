"""Checkpoint folder of a run: the newest, the best and the damaged checkpoints.

Each checkpoint is a folder `step-N` with a manifest: the resume state and a sha256 per file. A
damaged one is skipped with a warning. `latest` names the newest, `best` is a link to the one with
the best depth in validation.
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
_VALIDATION_NAME = "validation.json"  # written after the checkpoint, so not in its manifest


class Checkpoint(NamedTuple):
    """An undamaged checkpoint."""

    folder: Path
    state: ResumeState


def list_checkpoints(folder: Path) -> list[Path]:
    """Lists the finished checkpoints of a run, newest first."""
    return sorted(folder.glob("step-*"), reverse=True)


def find_checkpoint(folder: Path) -> Checkpoint | None:
    """Finds the newest undamaged checkpoint of a run.

    Args:
        folder: the run's `checkpoints` folder; it may be absent.

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
            logger.warning("%s; falling back to the checkpoint before it", error)
    if candidates:
        raise CheckpointError(
            f"all {len(candidates)} checkpoints in {folder} are damaged; restore one, or start "
            "over with checkpoint.resume=never"
        )
    return None


def verify_checkpoint(checkpoint: Path) -> ResumeState:
    """Compares every file of a checkpoint with its manifest.

    Returns:
        The resume state that was saved with it.

    Raises:
        CheckpointError: naming the first file that is missing or differs.
    """
    try:
        manifest = json.loads((checkpoint / MANIFEST_NAME).read_text())
        state, files = ResumeState.from_json(manifest["facts"]), manifest["files"]
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(f"{checkpoint} has no readable {MANIFEST_NAME}") from None
    for name, expected in files.items():
        path = checkpoint / name
        if not path.is_file():
            raise CheckpointError(f"{checkpoint} lacks {name}")
        if path.stat().st_size != expected["bytes"] or _hash(path) != expected["sha256"]:
            raise CheckpointError(f"{path} is damaged: it differs from its sha256 in the manifest")
    return state


def publish_checkpoint(partial: Path, state: ResumeState, keep: int) -> Path:
    """Gives a written checkpoint its manifest, then its name, and removes what is not needed now.

    Those are older ones, and damaged ones of later steps, which are being taken again.

    Args:
        partial: the folder in which it was written, beside its place.
        state: the resume state.
        keep: number of newest checkpoints to keep, beside the best one.

    Returns:
        The checkpoint's folder.

    Raises:
        OSError: if the disk refuses; then there is no checkpoint of this step.
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
    """Names the checkpoint of a step."""
    return f"step-{step:08d}"


def note_validation(checkpoint: Path, metrics: dict[str, float]) -> None:
    """Keeps the metrics of a checkpoint inside it, and lets `best` point to the best of all.

    Raises:
        OSError: if the disk refuses.
    """
    atomic_write(checkpoint / _VALIDATION_NAME, json.dumps(metrics).encode())
    best = find_best(checkpoint.parent)
    if best is not None:
        aside = checkpoint.parent / ".best"
        aside.unlink(missing_ok=True)
        aside.symlink_to(best.name)
        aside.replace(checkpoint.parent / "best")


def read_validation(checkpoint: Path) -> dict[str, float] | None:
    """Reads what `note_validation` kept; None where the checkpoint was not validated."""
    try:
        return json.loads((checkpoint / _VALIDATION_NAME).read_text())
    except (OSError, ValueError):
        return None


def find_best(folder: Path) -> Path | None:
    """Finds the validated checkpoint with the least abs_rel, the older one where two are equal."""
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
