"""Checkpoints: directories that are whole or absent.

A checkpoint is written under a hidden name, flushed to the disk, described by a manifest with a
sha256 per file, renamed, and only then named by `latest`. A damaged one is passed over, loudly.
"""

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from md2dist.errors import CheckpointError
from md2dist.training.world import World, wait_for_all

logger = logging.getLogger(__name__)

MANIFEST_NAME = "manifest.json"
_PARTIAL = ".partial-"


def save_checkpoint(
    engine: Any, folder: Path, facts: dict[str, Any], config_text: str, keep: int, world: World
) -> Path:
    """Saves the engine's weights and optimizer with the facts of the run; all ranks call it.

    Args:
        engine: a DeepSpeed engine.
        folder: the run's `checkpoints` folder.
        facts: plain values that a resume needs; at least `step`.
        config_text: the run's resolved settings, kept inside.
        keep: number of newest checkpoints that stay; older ones are removed.
        world: this process.

    Returns:
        The folder of the new checkpoint.
    """
    name = f"step-{facts['step']:08d}"
    partial = folder / (_PARTIAL + name)
    if world.is_main:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    wait_for_all()
    engine.save_checkpoint(str(folder), tag=partial.name, client_state=facts, save_latest=False)
    wait_for_all()
    final = folder / name
    if world.is_main:
        (partial / "config.yaml").write_text(config_text)
        _seal(partial, facts)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        _sync_folder(folder)
        _name_latest(folder, name)
        for old in list_checkpoints(folder)[keep:]:
            shutil.rmtree(old)
    wait_for_all()
    return final


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
        if path.stat().st_size != expected["bytes"] or _hash(path) != expected["sha256"]:
            raise CheckpointError(f"{path} is damaged: it differs from its sha256 in the manifest")
    return facts


def load_checkpoint(engine: Any, checkpoint: Path) -> None:
    """Loads weights, buffers and optimizer state into an engine; all ranks call it.

    Raises:
        CheckpointError: if DeepSpeed finds nothing there (it would go on with random weights).
    """
    path, _ = engine.load_checkpoint(
        str(checkpoint.parent), tag=checkpoint.name, load_lr_scheduler_states=False
    )
    if path is None:
        raise CheckpointError(f"DeepSpeed could not load {checkpoint}")


def _seal(partial: Path, facts: dict[str, Any]) -> None:
    """Flushes every file to the disk and writes the manifest last."""
    files = {}
    for path in sorted(partial.iterdir()):
        files[path.name] = {"bytes": path.stat().st_size, "sha256": _hash(path)}
        _sync_file(path)
    manifest = partial / MANIFEST_NAME
    manifest.write_text(json.dumps({"facts": facts, "files": files}, indent=1))
    _sync_file(manifest)
    _sync_folder(partial)


def _name_latest(folder: Path, name: str) -> None:
    temporary = folder / ".latest"
    temporary.write_text(name + "\n")
    _sync_file(temporary)
    temporary.replace(folder / "latest")
    _sync_folder(folder)


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
