"""A run's folder of checkpoints: publishing, finding the newest and the best.

Each checkpoint is a folder `step-N` with a manifest. A damaged one is skipped with a warning.
`latest` names the newest; `best` is a link to the one with the best validation metrics.
"""

import json
import logging
import os
from collections.abc import Callable, Collection
from errno import EEXIST
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from md2dist.errors import CheckpointError, WeightsError
from md2dist.runs.checkpoint_manifest import verify_checkpoint, write_manifest
from md2dist.runs.checkpoint_names import (
    VALIDATION_NAME,
    clear_name,
    list_checkpoints,
    list_ignored,
    name_of,
    remove_checkpoint,
    step_of,
)
from md2dist.runs.resume_state import ResumeState
from md2dist.storage.atomic import atomic_symlink, atomic_write, publish

logger = logging.getLogger(__name__)

_LARGEST_VALIDATION = 1 << 20  # bytes
_ORIGIN = "origin"  # beside the metrics of a validation: the set that decides


class Checkpoint(NamedTuple):
    """An undamaged checkpoint."""

    folder: Path
    state: ResumeState


def find_checkpoint(
    folder: Path, check: Callable[[Checkpoint], None] = lambda checkpoint: None
) -> Checkpoint | None:
    """Finds the newest undamaged checkpoint of a run.

    Args:
        folder: the run's `checkpoints` folder; it may not exist.
        check: raises a WeightsError or CheckpointError for one whose content is damaged, though its
            files are those that were saved.

    Returns:
        The checkpoint, or None if the run has none.

    Raises:
        CheckpointError: if there are checkpoints and all of them are damaged.
    """
    candidates = list_checkpoints(folder)
    if ignored := list_ignored(folder):
        names = ", ".join(map(repr, ignored))
        logger.warning("not checkpoints of a run, ignored in %s: %s", folder, names)
    for candidate in candidates:
        try:
            checkpoint = Checkpoint(candidate, verify_checkpoint(candidate))
            check(checkpoint)
            return checkpoint
        except (CheckpointError, WeightsError) as error:
            logger.warning("%s; falling back to the previous checkpoint", error)
    if candidates:
        raise CheckpointError(
            f"all {len(candidates)} checkpoints in {folder} are damaged; restore one, or start "
            "over with checkpoint.resume=never"
        )
    return None


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
    write_manifest(partial, state)
    if final in list_checkpoints(folder):
        remove_checkpoint(final)
    if os.path.lexists(final):
        clear_name(final)
    publish(partial, final)
    try:
        atomic_write(folder / "latest", f"{final.name}\n".encode())
    except OSError as error:
        logger.warning("%s could not be written: %s", folder / "latest", error.strerror)
    for later in list_checkpoints(folder):
        if (step_of(later.name) or 0) > state.step:
            remove_checkpoint(later)
    kept = {find_best(folder), *(folder / name_of(step) for step in kept_steps)}
    for old in list_checkpoints(folder)[keep:]:
        if old not in kept:
            remove_checkpoint(old)
    return final


def note_validation(checkpoint: Path, metrics: dict[str, float], origin: str = "") -> None:
    """Writes the validation metrics into a checkpoint and updates the link `best`.

    Args:
        checkpoint: its folder.
        metrics: by name; abs_rel decides which checkpoint is best.
        origin: names the set that decides; a new origin begins a new comparison.

    Raises:
        OSError: if writing fails, or `best` is not a link.
    """
    atomic_write(checkpoint / VALIDATION_NAME, json.dumps({_ORIGIN: origin, **metrics}).encode())
    best, link = find_best(checkpoint.parent), checkpoint.parent / "best"
    if best is None:
        return
    if os.path.lexists(link) and not link.is_symlink():
        raise FileExistsError(EEXIST, "a file or folder has the name of the link `best`", str(link))
    atomic_symlink(link, best.name)


def read_validation(checkpoint: Path) -> dict[str, float] | None:
    """Reads the validation metrics; None if there are none, or they are damaged."""
    values = _read_validation(checkpoint)
    return values and {name: value for name, value in values.items() if name != _ORIGIN}


def _read_validation(checkpoint: Path) -> dict[str, Any] | None:
    try:
        with (checkpoint / VALIDATION_NAME).open("rb") as file:
            metrics = json.loads(file.read(_LARGEST_VALIDATION))
    except (OSError, ValueError, RecursionError):
        return None
    is_valid = isinstance(metrics, dict) and isinstance(metrics.get("abs_rel"), float)
    return metrics if is_valid else None


def find_best(folder: Path) -> Path | None:
    """Finds the validated checkpoint with the lowest abs_rel; the older one of equals.

    Checkpoints that another set decided than that of the newest validation do not count.
    """
    scores: dict[Path, float] = {}
    newest = None
    for checkpoint in list_checkpoints(folder):
        values = _read_validation(checkpoint)
        if values is None:
            continue
        origin = values.get(_ORIGIN, "")  # unknown in earlier versions
        newest = newest or origin
        if isfinite(values["abs_rel"]) and origin in ("", newest):
            scores[checkpoint] = values["abs_rel"]
    return min(reversed(scores), key=scores.__getitem__, default=None)
