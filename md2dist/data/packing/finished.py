"""Record of a finished packing, so that the same command succeeds when it is given again."""

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from md2dist.data.packing.plan import Plan, describe_differences
from md2dist.data.packing.source_files import digest_sources, read_source
from md2dist.data.packing.working_names import (
    FINISHED_NAME,
    PACKED_NAME,
    SKIPPED_NAME,
    list_plans,
    remove_working_folder,
)
from md2dist.data.shards.manifest import MANIFEST_NAME, Manifest, read_manifest
from md2dist.errors import KittiDataError, ShardError
from md2dist.storage.atomic import publish
from md2dist.storage.bounded import read_bounded
from md2dist.storage.hashing import hash_file
from md2dist.storage.typed_json import MAX_BYTES, parse_json


@dataclass(frozen=True)
class FinishedPacking:
    """Contents of ``.packed.json``, beside the manifest."""

    plan: dict  # fingerprint of the plan
    stamps: str  # sha256 over the stamps of all planned files, packed and skipped
    manifest: str  # sha256 of the manifest
    skipped: str = ""  # sha256 of the list of skipped samples, if there are any

    def as_json(self) -> bytes:
        """Returns the contents of the file."""
        return json.dumps(asdict(self), sort_keys=True).encode()


def digest_stamps(plan: Plan) -> str:
    """Returns the sha256 over the stamps of all files of a plan.

    Raises:
        KittiAccessError: if access to a file is denied.
    """
    listing = "".join(f"{plan.source.files.stamp(name)}  {name}\n" for name in plan.files())
    return hashlib.sha256(listing.encode()).hexdigest()


def read_finished(output: Path) -> FinishedPacking | None:
    """Reads the record of an output folder; None if there is none for the manifest in it."""
    finished = read_record(output)
    try:
        is_of_manifest = finished and hash_file(output / MANIFEST_NAME) == finished.manifest
    except OSError:
        return None
    return finished if is_of_manifest else None


def read_record(output: Path) -> FinishedPacking | None:
    """Reads the record of an output folder, of whichever manifest; None if there is none."""
    try:
        return parse_json(read_bounded(output / FINISHED_NAME, MAX_BYTES), FinishedPacking)
    except (OSError, ValueError):
        return None


def find_finished(plan: Plan, output: Path) -> Manifest | None:
    """Finds the result of a packing in its output folder.

    Returns:
        The manifest, if the folder holds all shards of the plan, packed from files that are
        unchanged since; else None.

    Raises:
        ShardError: if a merge that was stopped cannot be completed.
        KittiAccessError: if access to a file of the plan is denied.
    """
    try:
        clear_packed(output)
    except OSError as error:
        raise ShardError(f"shards cannot be written to {output}: {error}") from None
    finished = read_finished(output)
    if finished is None or finished.plan != plan.fingerprint():
        return None
    try:
        manifest = read_manifest(output)
    except ShardError:
        return None
    num_damaged = manifest.num_skipped - len(plan.skipped)
    is_complete = all(_size(output / shard.name) == shard.num_bytes for shard in manifest.shards)
    if not is_complete or (num_damaged and not plan.skip_bad):
        return None
    if digest_stamps(plan) == finished.stamps:
        return manifest
    # With a damaged file, which may have been repaired, the digest of the others is not enough.
    is_unchanged = not num_damaged and _digest_files(plan) == manifest.source_digest
    return manifest if is_unchanged else None


def clear_packed(output: Path) -> None:
    """Moves a finished packing's manifest to its final name, and removes the working folder."""
    packed = output / PACKED_NAME
    for folder in list_plans(packed):
        if (folder / MANIFEST_NAME).is_file():
            for name in (FINISHED_NAME, SKIPPED_NAME, MANIFEST_NAME):
                with suppress(FileNotFoundError):  # there is none, or another process does the same
                    publish(folder / name, output / name)
    remove_working_folder(packed)


def describe_finished(plan: Plan, output: Path) -> str:
    """Returns what an output folder holds, other than the finished packing of a plan."""
    finished = read_finished(output)
    if finished is None:
        return "shards"
    if finished.plan != plan.fingerprint():
        return f"shards that differ in {describe_differences(plan, finished.plan)}"
    return "these shards, but some are missing, or source files have changed or were skipped"


def _digest_files(plan: Plan) -> str | None:
    """Reads all files of a plan; returns None if one is damaged."""
    try:
        sources = {name: read_source(plan.source.files, name)[1].sha256 for name in plan.files()}
    except KittiDataError:
        return None
    return digest_sources(sources)


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
