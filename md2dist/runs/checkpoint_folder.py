"""A run's folder of checkpoints: which are whole, which is the newest, which the best.

Each checkpoint is a folder `step-N` with a manifest: the facts of the run and a sha256 per file. A
damaged one is passed over, loudly. `latest` names the newest, `best` points to the one whose depth
was the best in validation.
"""

import json
import logging
import shutil
from math import isfinite
from pathlib import Path
from typing import Any

from md2dist.errors import CheckpointError
from md2dist.storage.atomic import atomic_symlink, atomic_write, publish
from md2dist.storage.hashing import hash_file

logger = logging.getLogger(__name__)

MANIFEST_NAME = "manifest.json"
_VALIDATION_NAME = "validation.json"  # written after the checkpoint, so not in its manifest


def list_checkpoints(folder: Path) -> list[Path]:
    """Lists the finished checkpoints of a run, newest first."""
    return sorted(folder.glob("step-*"), reverse=True)


def find_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Finds the newest undamaged checkpoint of a run.

    Args:
        folder: the run's `checkpoints` folder; it may be absent.

    Returns:
        Its folder and its facts, or None where the run has no checkpoint at all.

    Raises:
        CheckpointError: if there are checkpoints and all of them are damaged.
    """
    candidates = list_checkpoints(folder)
    for candidate in candidates:
        try:
            return candidate, verify_checkpoint(candidate)
        except CheckpointError as error:
            logger.warning("%s; falling back to the checkpoint before it", error)
    if candidates:
        raise CheckpointError(
            f"all {len(candidates)} checkpoints in {folder} are damaged; restore one, or start "
            "over with checkpoint.resume=never"
        )
    return None


def verify_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """Compares every file of a checkpoint with its manifest.

    Returns:
        The facts that were saved with it.

    Raises:
        CheckpointError: naming the first file that is missing or differs.
    """
    try:
        manifest = json.loads((checkpoint / MANIFEST_NAME).read_text())
        facts, files = manifest["facts"], manifest["files"]
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(f"{checkpoint} has no readable {MANIFEST_NAME}") from None
    for name, expected in files.items():
        path = checkpoint / name
        if not path.is_file():
            raise CheckpointError(f"{checkpoint} lacks {name}")
        if path.stat().st_size != expected["bytes"] or hash_file(path) != expected["sha256"]:
            raise CheckpointError(f"{path} is damaged: it differs from its sha256 in the manifest")
    return facts


def publish_checkpoint(partial: Path, facts: dict[str, Any], keep: int) -> Path:
    """Gives a written checkpoint its manifest, then its name, and removes what is not needed now.

    Those are older ones, and damaged ones of later steps, which are being taken again.

    Args:
        partial: the folder in which it was written, beside its place.
        facts: plain values that a resume needs; at least `step`.
        keep: number of newest checkpoints that stay; the best one stays as well.

    Returns:
        The checkpoint's folder.

    Raises:
        OSError: if the disk refuses; then there is no checkpoint of this step.
    """
    folder = partial.parent
    final = folder / name_of(facts["step"])
    _write_manifest(partial, facts)
    shutil.rmtree(final, ignore_errors=True)
    publish(partial, final)
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
        atomic_symlink(checkpoint.parent / "best", best.name)


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


def _write_manifest(partial: Path, facts: dict[str, Any]) -> None:
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": hash_file(path)}
        for path in sorted(partial.iterdir())
    }
    manifest = {"facts": facts, "files": files}
    atomic_write(partial / MANIFEST_NAME, json.dumps(manifest, indent=1).encode())
