"""Names in a run's folder of checkpoints: which entries are ours, and which are left alone.

Copies made by hand, the output of converters and links may stand beside the checkpoints. They are
never deleted, do not count as checkpoints, and no run resumes from one.
"""

import logging
import re
import shutil
from pathlib import Path

from md2dist.errors import CheckpointError
from md2dist.storage.atomic import set_aside

logger = logging.getLogger(__name__)

STATES_NAME = "mp_rank_00_model_states.pt"  # written by DeepSpeed; the key `module` has the weights
MANIFEST_NAME = "manifest.json"
CONFIG_NAME = "config.yaml"
VALIDATION_NAME = "validation.json"  # written after the checkpoint, so not in its manifest
_PARTIAL = ".partial-"
_STEP = re.compile(r"step-([0-9]{8,})")
_FILE = re.compile(
    r"\w+_states\.pt|manifest\.json|config\.yaml|validation\.json"
    r"|\.(manifest|validation)\.json\.[0-9a-f]{8}"  # of a write that was killed
)


def name_of(step: int) -> str:
    """Returns the name of the checkpoint of a step."""
    return f"step-{step:08d}"


def step_of(name: str) -> int | None:
    """Returns the step of a checkpoint's name; None if it is not exactly such a name."""
    match = _STEP.fullmatch(name)
    return int(match[1]) if match and name_of(int(match[1])) == name else None


def partial_path(folder: Path, step: int) -> Path:
    """Returns the path under which the checkpoint of a step is written."""
    return folder / (_PARTIAL + name_of(step))


def list_checkpoints(folder: Path) -> list[Path]:
    """Lists the published checkpoints of a run, newest first; damaged ones are included.

    Args:
        folder: the run's `checkpoints` folder; it may not exist.
    """
    found = [path for path in _entries(folder) if _is_checkpoint(path)]
    return sorted(found, key=lambda path: step_of(path.name) or 0, reverse=True)


def read_latest(folder: Path) -> str | None:
    """Reads which checkpoint is named by `latest`; None if there is no such file.

    Args:
        folder: the run's `checkpoints` folder.

    Raises:
        CheckpointError: if it cannot be read, or does not hold the name of a checkpoint.
    """
    path = folder / "latest"
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            name = file.read(100).decode(errors="replace").strip()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    if step_of(name) is None:
        raise CheckpointError(
            f"{path} is damaged: it holds {name!r}, expected the name of a checkpoint such as "
            f"{name_of(100)}; pass the path of a checkpoint"
        )
    return name


def list_ignored(folder: Path) -> list[str]:
    """Lists the names that begin like those of checkpoints later than all of the run's."""
    newest = [path.name for path in list_checkpoints(folder)[:1]]
    begins = [path.name for path in _entries(folder) if path.name.startswith("step-")]
    return sorted(name for name in begins if not newest or name[: len(newest[0])] > newest[0])


def remove_partials(folder: Path) -> None:
    """Removes checkpoints left half-written by starts that ended while saving."""
    for path in _entries(folder):
        is_ours = step_of(path.name.removeprefix(_PARTIAL)) is not None
        if is_ours and path.name.startswith(_PARTIAL) and _is_folder(path):
            shutil.rmtree(path, ignore_errors=True)


def remove_checkpoint(checkpoint: Path) -> None:
    """Removes a checkpoint; a file that someone else has put into it stays, under another name.

    Args:
        checkpoint: one of `list_checkpoints`.
    """
    try:
        for path in sorted(checkpoint.iterdir(), key=lambda path: path.name != MANIFEST_NAME):
            if _FILE.fullmatch(path.name) and not path.is_dir():
                path.unlink()
        if any(checkpoint.iterdir()):
            clear_name(checkpoint)
        else:
            checkpoint.rmdir()
    except OSError as error:
        logger.warning("%s could not be removed: %s", checkpoint, error.strerror)


def clear_name(checkpoint: Path) -> None:
    """Renames an entry that has a checkpoint's name but is not a checkpoint.

    Raises:
        OSError: if it cannot be renamed.
    """
    kept = set_aside(checkpoint)
    logger.warning(
        "%s holds files that are not of a checkpoint; they are kept as %s", checkpoint, kept.name
    )


def _is_checkpoint(path: Path) -> bool:
    is_named = step_of(path.name) is not None and _is_folder(path)
    return is_named and any((path / name).is_file() for name in (MANIFEST_NAME, STATES_NAME))


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
