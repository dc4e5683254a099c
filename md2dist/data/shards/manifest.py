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

from md2dist.data.shards.entry import ShardEntry
from md2dist.data.shards.recipe import PACK_COMMAND, Recipe
from md2dist.errors import ShardError
from md2dist.storage.atomic import atomic_write
from md2dist.storage.open_store import is_url, open_store
from md2dist.storage.retries import INTERACTIVE, RetryPolicy
from md2dist.storage.store import fetch_bytes

FORMAT_VERSION = 2
MANIFEST_NAME = "index.json"


@dataclass(frozen=True)
class Manifest:
    """Contents of ``index.json``: the shards and the recipe they were packed with."""

    recipe: Recipe
    shards: tuple[ShardEntry, ...]
    skipped: tuple[tuple[str, str], ...] = ()  # (line of the split, reason)
    versions: dict[str, str] = field(default_factory=dict)  # of libraries that affect the bytes
    source_digest: str = ""  # sha256 over all source files
    digest: str = ""  # sha256 of index.json itself; set when read, never stored

    @cached_property
    def shard_sizes(self) -> list[int]:
        """Number of samples in each shard."""
        return [shard.count for shard in self.shards]

    @cached_property
    def num_samples(self) -> int:
        """Number of samples in all shards."""
        return sum(self.shard_sizes)


def read_manifest(folder: str | Path, retry_policy: RetryPolicy = INTERACTIVE) -> Manifest:
    """Reads the manifest of a folder of shards.

    Args:
        folder: local folder, or the address of a remote one.
        retry_policy: retries and timeout for a store that fails or stalls.

    Raises:
        ShardError: if the manifest is missing, or `parse_manifest` rejects it.
    """
    if is_url(folder):
        content = fetch_bytes(open_store(folder, retry_policy.timeout), MANIFEST_NAME, retry_policy)
        return parse_manifest(content, f"{folder}/{MANIFEST_NAME}")
    path = Path(folder) / MANIFEST_NAME
    try:
        content = path.read_bytes()
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
        stored = json.loads(content)
        version = stored["format_version"]
        if version == FORMAT_VERSION:
            return Manifest(
                recipe=Recipe.from_json(stored["recipe"]),
                shards=tuple(ShardEntry.from_json(entry) for entry in stored["shards"]),
                skipped=tuple((line, reason) for line, reason in stored["skipped"]),
                versions=stored["versions"],
                source_digest=stored["source_digest"],
                digest=hashlib.sha256(content).hexdigest(),
            )
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise ShardError(
            f"{origin} is damaged ({type(error).__name__}: {error}); "
            f"copy it again, or pack the shards again with `{PACK_COMMAND}`"
        ) from None
    raise ShardError(
        f"{origin} has format version {version}, expected {FORMAT_VERSION}: use the version of "
        "md2dist that packed these shards, or pack them again"
    )


def write_manifest(manifest: Manifest, folder: str | Path) -> None:
    """Writes ``index.json`` atomically."""
    atomic_write(Path(folder) / MANIFEST_NAME, encode_manifest(manifest))


def encode_manifest(manifest: Manifest) -> bytes:
    """Returns the bytes of an ``index.json``."""
    content = {
        "format_version": FORMAT_VERSION,
        "recipe": asdict(manifest.recipe),
        "versions": manifest.versions,
        "source_digest": manifest.source_digest,
        "skipped": manifest.skipped,
        "shards": [shard.as_json() for shard in manifest.shards],
    }
    return (json.dumps(content, separators=(",", ":")) + "\n").encode()
