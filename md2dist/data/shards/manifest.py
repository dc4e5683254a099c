"""Manifest ``index.json`` of a folder of WebDataset tar shards.

A sample is a sequence of tar members that share a key: one image per view (``0.png``, ``-1.png``,
``+1.png``, ``s.png``), ``json`` and, on request, ``velodyne.npz`` or ``annotated.npz``, the ground
truth. The manifest holds the byte offset of every sample, so a reader can fetch any one of them
without scanning the tar.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field

from md2dist.data.shards.entry import ShardEntry, StoredEntry
from md2dist.data.shards.recipe import PACK_COMMAND, Recipe
from md2dist.errors import ShardError
from md2dist.storage.atomic import atomic_write
from md2dist.storage.bounded import read_bounded
from md2dist.storage.open_store import is_url, open_store
from md2dist.storage.retries import INTERACTIVE, RetryPolicy
from md2dist.storage.store import fetch_bytes
from md2dist.storage.typed_json import Count, Items, Label, Positive, make_printable, parse_json

FORMAT_VERSION = 2
MANIFEST_NAME = "index.json"
MAX_BYTES = 32 << 20  # of index.json: 1.8 million samples, or 2 GB of memory if it is forged


@dataclass(frozen=True)
class _Version:
    format_version: Count


@dataclass(frozen=True)
class _StoredManifest:
    """JSON form of a `Manifest`."""

    recipe: Recipe
    shards: Items[StoredEntry]
    skipped: Items[tuple[Label, Label]]
    versions: Annotated[dict[Label, Label], Field(max_length=100)]
    source_digest: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]
    skipped_counts: list[Positive] | None = None  # earlier versions listed each sample
    drives: Items[Label] = field(default_factory=list)  # earlier versions did not list them

    def __post_init__(self) -> None:
        if (self.recipe.height is None) != (self.recipe.width is None):
            raise ValueError("recipe has only one of height and width")
        if self.skipped_counts is not None and len(self.skipped_counts) != len(self.skipped):
            raise ValueError(
                f"skipped_counts has {len(self.skipped_counts)} numbers, expected one for each of "
                f"the {len(self.skipped)} entries of skipped"
            )


class SkippedDrive(NamedTuple):
    """Skipped samples of a drive."""

    name: str  # the drive; if a single sample of it was skipped, that line of the split
    reason: str  # for the first of them
    count: int = 1

    def __str__(self) -> str:
        first = f"{self.count:,} samples, the first: " if self.count > 1 else ""
        return f"{self.name}: {first}{self.reason}"


@dataclass(frozen=True)
class Manifest:
    """Contents of ``index.json``: the shards and the recipe they were packed with."""

    recipe: Recipe
    shards: tuple[ShardEntry, ...]
    skipped: tuple[SkippedDrive, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)  # of libraries that affect the bytes
    source_digest: str = ""  # sha256 over all source files
    drives: tuple[str, ...] = ()  # of the samples, sorted; empty if unknown
    digest: str = ""  # sha256 of index.json itself; set when read, never stored

    @cached_property
    def shard_sizes(self) -> list[int]:
        """Number of samples in each shard."""
        return [shard.count for shard in self.shards]

    @cached_property
    def num_samples(self) -> int:
        """Number of samples in all shards."""
        return sum(self.shard_sizes)

    @property
    def num_skipped(self) -> int:
        """Number of samples that were skipped."""
        return sum(drive.count for drive in self.skipped)


def read_manifest(folder: str | Path, retry_policy: RetryPolicy = INTERACTIVE) -> Manifest:
    """Reads the manifest of a folder of shards.

    Args:
        folder: local folder, or the address of a remote one.
        retry_policy: retries and timeout for a store that fails or stalls.

    Raises:
        ShardError: if the manifest is missing, or `parse_manifest` rejects it.
    """
    if is_url(folder):
        store = open_store(folder, retry_policy.timeout)
        warning = retry_policy._replace(warns=True)  # first contact with the store
        content = fetch_bytes(store, MANIFEST_NAME, warning, max_bytes=MAX_BYTES)
        return parse_manifest(content, f"{store.url}/{MANIFEST_NAME}")
    path = Path(folder) / MANIFEST_NAME
    try:
        content = read_bounded(path, MAX_BYTES)
    except OSError as error:
        raise ShardError(
            f"{path} cannot be read ({error.strerror}); pack shards with `{PACK_COMMAND}`"
        ) from None
    return parse_manifest(content, str(path))


def parse_manifest(content: bytes, origin: str) -> Manifest:
    """Parses the bytes of an ``index.json``.

    Args:
        content: contents of the file.
        origin: path or URL, for messages.

    Raises:
        ShardError: if the content is damaged or of another format version.
    """
    try:
        version = parse_json(content, _Version).format_version
        if version == FORMAT_VERSION:
            stored = parse_json(content, _StoredManifest)
            counts = stored.skipped_counts or [1] * len(stored.skipped)
            return Manifest(
                recipe=stored.recipe,
                shards=tuple(map(ShardEntry.from_stored, stored.shards)),
                skipped=tuple(
                    SkippedDrive(*entry, count)
                    for entry, count in zip(stored.skipped, counts, strict=True)
                ),
                versions=stored.versions,
                source_digest=stored.source_digest,
                drives=tuple(stored.drives),
                digest=hashlib.sha256(content).hexdigest(),
            )
    except ValueError as error:
        raise ShardError(
            f"{origin} is damaged ({error}); copy it again, or pack the shards again with "
            f"`{PACK_COMMAND}`"
        ) from None
    raise ShardError(
        f"{origin} has format version {version}, expected {FORMAT_VERSION}: use the version of "
        "md2dist that packed these shards, or pack them again"
    )


def write_manifest(manifest: Manifest, folder: str | Path) -> None:
    """Writes ``index.json`` atomically.

    Raises:
        ShardError: see `encode_manifest`.
        OSError: if it cannot be written.
    """
    atomic_write(Path(folder) / MANIFEST_NAME, encode_manifest(manifest))


def encode_manifest(manifest: Manifest) -> bytes:
    """Returns the bytes of an ``index.json``.

    Raises:
        ShardError: if they are more than `read_manifest` accepts.
    """
    recipe = asdict(manifest.recipe)
    content = {
        "format_version": FORMAT_VERSION,
        "recipe": recipe | {"split": make_printable(recipe["split"])},
        "versions": manifest.versions,
        "source_digest": manifest.source_digest,
        "drives": list(map(make_printable, manifest.drives)),
        "skipped": [tuple(map(make_printable, drive[:2])) for drive in manifest.skipped],
        "skipped_counts": [drive.count for drive in manifest.skipped],
        "shards": [shard.as_json() for shard in manifest.shards],
    }
    text = json.dumps(content, separators=(",", ":")) + "\n"
    if len(text) > MAX_BYTES:
        raise ShardError(
            f"{MANIFEST_NAME} of {manifest.num_samples} samples has {len(text)} bytes, expected at "
            f"most {MAX_BYTES}; split the list of samples into several folders"
        )
    return text.encode()
