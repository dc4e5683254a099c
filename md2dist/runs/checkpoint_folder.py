"""A run's folder of checkpoints: publishing, verifying, finding the newest and the best.

Each checkpoint is a folder `step-N` with a manifest: the resume state and a sha256 per file. A
damaged one is skipped with a warning. `latest` names the newest; `best` is a link to the one with
the best validation metrics.
"""

import json
import logging
import shutil
from collections.abc import Collection
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from md2dist.errors import CheckpointError
from md2dist.runs.resume_state import ResumeState
from md2dist.storage.atomic import atomic_symlink, atomic_write, publish
from md2dist.storage.hashing import hash_file

logger = logging.getLogger(__name__)

MANIFEST_NAME = "manifest.json"
_VALIDATION_NAME = "validation.json"  # written after the checkpoint, so not in its manifest


class Checkpoint(NamedTuple):
    """An undamaged checkpoint."""

    folder: Path
    state: ResumeState


def list_checkpoints(folder: Path) -> list[Path]:
    """Lists the published checkpoints of a run, newest first."""
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
    """Verifies every file of a checkpoint against its manifest.

    Returns:
        The resume state saved with it.

    Raises:
        CheckpointError: if a file is missing or differs; names the first such file.
    """
    try:
        manifest = json.loads((checkpoint / MANIFEST_NAME).read_text())
        state, files = ResumeState.from_json(manifest["facts"]), manifest["files"]
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(
            f"{checkpoint} is damaged: {MANIFEST_NAME} is missing or invalid"
        ) from None
    for name, expected in files.items():
        path = checkpoint / name
        if not path.is_file():
            raise CheckpointError(f"{checkpoint} is damaged: {name} is missing")
        if path.stat().st_size != expected["bytes"] or hash_file(path) != expected["sha256"]:
            raise CheckpointError(
                f"{path} is damaged: its size or sha256 differs from the manifest"
            )
    return state


def publish_checkpoint(
    partial: Path, state: ResumeState, keep: int, kept_steps: Collection[int] = ()
) -> Path:
    """Publishes a written checkpoint under its final name and removes obsolete ones.

    Writes its manifest, then renames it. Obsolete are surplus older checkpoints, and damaged ones
    of later steps, which will be repeated.

    Args:
        partial: folder of the written checkpoint, in the run's `checkpoints` folder.
        state: the resume state.
        keep: number of newest checkpoints to keep, in addition to the best one.
        kept_steps: steps whose checkpoints are kept in any case.

    Returns:
        The checkpoint's folder.

    Raises:
        OSError: if writing fails; the checkpoint is then not published.
    """
    folder = partial.parent
    final = folder / name_of(state.step)
    _write_manifest(partial, state)
    shutil.rmtree(final, ignore_errors=True)
    publish(partial, final)
    try:
        atomic_write(folder / "latest", f"{final.name}\n".encode())
    except OSError as error:
        logger.warning("%s could not be written: %s", folder / "latest", error.strerror)
    for later in [path for path in list_checkpoints(folder) if path > final]:
        shutil.rmtree(later, ignore_errors=True)
    kept = {find_best(folder), *(folder / name_of(step) for step in kept_steps)}
    for old in list_checkpoints(folder)[keep:]:
        if old not in kept:
            shutil.rmtree(old, ignore_errors=True)
    return final


def name_of(step: int) -> str:
    """Returns the name of the checkpoint of a step."""
    return f"step-{step:08d}"


def note_validation(checkpoint: Path, metrics: dict[str, float]) -> None:
    """Writes the validation metrics into a checkpoint and updates the link `best`.

    Raises:
        OSError: if writing fails.
    """
    atomic_write(checkpoint / _VALIDATION_NAME, json.dumps(metrics).encode())
    best = find_best(checkpoint.parent)
    if best is not None:
        atomic_symlink(checkpoint.parent / "best", best.name)


def read_validation(checkpoint: Path) -> dict[str, float] | None:
    """Reads the validation metrics; None if the checkpoint was not validated."""
    try:
        return json.loads((checkpoint / _VALIDATION_NAME).read_text())
    except (OSError, ValueError):
        return None


def find_best(folder: Path) -> Path | None:
    """Finds the validated checkpoint with the lowest abs_rel; the older one of equals."""
    scores = {}
    for checkpoint in reversed(list_checkpoints(folder)):
        metrics = read_validation(checkpoint)
        if metrics is not None and isfinite(metrics["abs_rel"]):
            scores[checkpoint] = metrics["abs_rel"]
    return min(scores, key=scores.__getitem__, default=None)


def _write_manifest(partial: Path, state: ResumeState) -> None:
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": hash_file(path)}
        for path in sorted(partial.iterdir())
    }
    manifest = {"facts": state.to_json(), "files": files}
    atomic_write(partial / MANIFEST_NAME, json.dumps(manifest, indent=1).encode())
