"""Files in the output folder of a packing: which ones a packing made, and may delete or replace.

Made by a packing are, as regular files, ``index.json``, the shards that it lists, and the records
beside it. Whatever else has a name that a packing needs is set aside under another name; all other
files, folders and links stay as they are.
"""

import json
import logging
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from md2dist.data.packing.finished import FinishedPacking, read_record
from md2dist.data.packing.working_names import (
    FINISHED_NAME,
    PACKING_NAME,
    REPLACED_NAME,
    SKIPPED_NAME,
    is_file,
    list_plans,
)
from md2dist.data.shards.manifest import MANIFEST_NAME
from md2dist.data.shards.manifest import MAX_BYTES as MAX_MANIFEST_BYTES
from md2dist.storage.atomic import atomic_write, set_aside
from md2dist.storage.bounded import read_bounded
from md2dist.storage.hashing import hash_file
from md2dist.storage.typed_json import Count, FileName, Items, parse_json

logger = logging.getLogger(__name__)

_Kind = TypeVar("_Kind")
_SHARD = re.compile(r"shard-[0-9]{6,}\.tar")


@dataclass(frozen=True)
class _Shard:
    name: FileName


@dataclass(frozen=True)
class _Listing:
    """The part of ``index.json`` that all format versions share."""

    format_version: Count
    recipe: dict
    shards: Items[_Shard]


def list_present(output: Path) -> list[Path]:
    """Lists what has the name of a manifest or a shard, whoever made it."""
    found = [path for path in output.glob("shard-*") if _SHARD.fullmatch(path.name)]
    manifest = output / MANIFEST_NAME
    return [manifest, *found] if os.path.lexists(manifest) else found


def claim_names(output: Path, plan_folder: Path, names: Iterable[str]) -> None:
    """Notes which files a packing replaces, and sets aside what no packing made.

    Args:
        output: the output folder.
        plan_folder: folder of the packing in the working folder.
        names: names that the packing will give to its files in the output.

    Raises:
        OSError: if a file cannot be renamed or written.
    """
    made = _find_made(output)
    kept = [
        set_aside(output / name).name
        for name in names
        if name not in made and os.path.lexists(output / name)
    ]
    if kept:
        shown = ", ".join(kept[:3]) + ", ..." * (len(kept) > 3)
        logger.warning("%s: no packing made %d files; kept as %s", output, len(kept), shown)
    atomic_write(plan_folder / REPLACED_NAME, json.dumps(sorted(made)).encode())


def remove_replaced(output: Path, plan_folder: Path, keep: Iterable[str] = ()) -> None:
    """Removes the files that a packing replaces, the manifest first.

    Args:
        output: the output folder.
        plan_folder: folder of the packing, in which `claim_names` has noted them.
        keep: names of files that the packing has replaced already.

    Raises:
        OSError: if a file cannot be removed.
    """
    names = _read(plan_folder / REPLACED_NAME, list[FileName]) or []
    for name in sorted(set(names) - set(keep), key=lambda name: name != MANIFEST_NAME):
        if is_file(output / name):
            (output / name).unlink()


def _find_made(output: Path) -> set[str]:
    """Finds the names of the files in an output folder that a packing made."""
    names = set(_list_shards(output / MANIFEST_NAME))
    if names:
        names.add(MANIFEST_NAME)
    record = read_record(output) if is_file(output / FINISHED_NAME) else None
    if record is not None:
        names.add(FINISHED_NAME)
        if _is_listed_by(record, output / SKIPPED_NAME):
            names.add(SKIPPED_NAME)
    for folder in list_plans(output / PACKING_NAME):  # merges that were stopped
        names.update(_list_shards(folder / MANIFEST_NAME))
        names.update(_read(folder / REPLACED_NAME, list[FileName]) or [])
    return {name for name in names if is_file(output / name)}


def _is_listed_by(record: FinishedPacking, skipped: Path) -> bool:
    return bool(record.skipped) and is_file(skipped) and hash_file(skipped) == record.skipped


def _list_shards(manifest: Path) -> list[str]:
    listing = _read(manifest, _Listing)
    names = [shard.name for shard in listing.shards] if listing else []
    return list(filter(_SHARD.fullmatch, names))


def _read(path: Path, kind: type[_Kind]) -> _Kind | None:
    with suppress(OSError, ValueError):
        if is_file(path):
            return parse_json(read_bounded(path, MAX_MANIFEST_BYTES), kind)
    return None
