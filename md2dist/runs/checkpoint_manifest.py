"""Manifest of a checkpoint: its resume state, and the size and sha256 of each file.

Every reader of a checkpoint compares the files with it first.
"""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from md2dist.errors import CheckpointError
from md2dist.runs.checkpoint_names import CONFIG_NAME, MANIFEST_NAME, STATES_NAME, step_of
from md2dist.runs.resume_state import ResumeState
from md2dist.storage.atomic import atomic_write
from md2dist.storage.bounded import read_bounded
from md2dist.storage.hashing import hash_file
from md2dist.storage.typed_json import Count, Digest, FileName, parse_json

NEEDED_FOR_WEIGHTS = (CONFIG_NAME, STATES_NAME)
_LARGEST_BYTES = 1 << 24  # of a manifest; a rank adds about 150 bytes


@dataclass(frozen=True)
class FileDigest:
    """Size and digest of a file."""

    bytes: Count
    sha256: Digest


@dataclass(frozen=True)
class Manifest:
    """Content of a manifest."""

    facts: ResumeState  # named as in the file
    files: dict[FileName, FileDigest]  # by name


def write_manifest(checkpoint: Path, state: ResumeState) -> None:
    """Writes the manifest of all files in a folder.

    Raises:
        OSError: if a file cannot be read, or the manifest cannot be written.
    """
    files = {
        path.name: asdict(FileDigest(path.stat().st_size, hash_file(path)))
        for path in sorted(checkpoint.iterdir())
        if path.name != MANIFEST_NAME
    }
    manifest = {"facts": state.to_json(), "files": files}
    atomic_write(checkpoint / MANIFEST_NAME, json.dumps(manifest, indent=1).encode())


def read_manifest(checkpoint: Path) -> Manifest:
    """Reads and checks a manifest; the files that it describes are not read.

    Raises:
        CheckpointError: if it is missing or invalid, or belongs to another step than the folder.
    """
    path = checkpoint / MANIFEST_NAME
    try:
        manifest = parse_json(read_bounded(path, _LARGEST_BYTES), Manifest)
    except FileNotFoundError:
        raise CheckpointError(f"{checkpoint} is damaged: {MANIFEST_NAME} is missing") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    named = step_of(checkpoint.resolve().name)
    if named is not None and named != manifest.facts.step:
        raise CheckpointError(
            f"{checkpoint} is damaged: {MANIFEST_NAME} says step {manifest.facts.step}"
        )
    return manifest


def verify_checkpoint(checkpoint: Path, names: Collection[str] | None = None) -> ResumeState:
    """Compares files of a checkpoint with its manifest.

    Args:
        checkpoint: its folder.
        names: the files that are going to be read; None: all.

    Returns:
        The resume state saved with them.

    Raises:
        CheckpointError: if a file is missing or differs; names the first such file.
    """
    manifest = read_manifest(checkpoint)
    files = manifest.files
    unlisted = set(NEEDED_FOR_WEIGHTS) - files.keys()
    if names is None:  # DeepSpeed would read them, too
        unlisted |= {path.name for path in checkpoint.glob("*_states.pt")} - files.keys()
    for name in sorted(unlisted):
        raise CheckpointError(f"{checkpoint} is damaged: {MANIFEST_NAME} does not list {name}")
    for name in files if names is None else names:
        path = checkpoint / name
        if not path.is_file():
            raise CheckpointError(f"{checkpoint} is damaged: {name} is missing")
        try:
            is_same = path.stat().st_size == files[name].bytes
            is_same = is_same and hash_file(path) == files[name].sha256
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
        if not is_same:
            raise CheckpointError(
                f"{path} is damaged: its size or sha256 differs from the manifest"
            )
    return manifest.facts
