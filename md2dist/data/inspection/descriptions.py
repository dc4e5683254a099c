"""Metadata of samples, read without their images."""

import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from md2dist.data.kitti.layout import CAMERAS
from md2dist.data.kitti.splits import SplitLine
from md2dist.data.shards.manifest import MANIFEST_NAME, read_manifest
from md2dist.data.shards.tar_sample import SampleBytes, find_member
from md2dist.errors import ShardError
from md2dist.storage.open_store import is_url, map_file, open_store
from md2dist.storage.retries import INTERACTIVE
from md2dist.storage.store import NUM_AT_ONCE, Store, fetch_bytes, with_retries

_STRINGS = ("key", "date", "drive", "side")
_INTEGERS = ("format_version", "frame", "width", "height", "native_width", "native_height")
_PIECE = 2048  # bytes: a header and the metadata after it


def parse_description(content: bytes | memoryview) -> dict[str, Any]:
    """Parses the ``json`` member of a sample.

    Returns:
        An object with at least: ``key``, ``date``, ``drive``, ``side`` as strings;
        ``format_version``, ``frame``, ``width``, ``height``, ``native_width``, ``native_height``
        as integers; ``K`` as 3x3 numbers, ``baseline`` as a number.

    Raises:
        ShardError: if an entry is missing or has another type.
    """
    try:
        info = json.loads(bytes(content))
    except ValueError as error:
        raise ShardError(f"json cannot be parsed: {error}") from None
    if not isinstance(info, dict):
        raise ShardError("json is not an object")
    wrong = [name for name in _STRINGS if not isinstance(info.get(name), str)]
    wrong += [name for name in _INTEGERS if not isinstance(info.get(name), int)]
    wrong += [
        name
        for name, shape in (("K", (3, 3)), ("baseline", ()))
        if not _are_numbers(info.get(name), shape)
    ]
    if "side" not in wrong and info["side"] not in CAMERAS:
        wrong.append("side")
    if wrong:
        raise ShardError(f"json has missing or invalid fields: {', '.join(wrong)}")
    return info


def split_line_of(info: dict[str, Any]) -> SplitLine:
    """Returns the split line of a sample, from its metadata."""
    drive = "/".join(filter(None, (info["date"], info["drive"])))
    return SplitLine(drive, info["frame"], info["side"])


def read_descriptions(folder: str | Path) -> Iterator[dict[str, Any]]:
    """Reads the metadata of every sample, in the order of the shards.

    Only the headers of images are read, unless a store serves whole shards only.

    Raises:
        ShardError: if the manifest cannot be used, or a shard is missing or damaged.
    """
    store = _find_ranges(folder)

    def describe(sample: SampleBytes) -> dict[str, Any]:
        return parse_description(find_member(sample, "json"))

    with ThreadPoolExecutor(NUM_AT_ONCE) as pool:
        for entry in read_manifest(folder).shards:
            byte_ranges = itertools.pairwise(entry.offsets.tolist())
            try:
                if store:
                    samples = [
                        _RemoteSample(store, entry.name, *byte_range) for byte_range in byte_ranges
                    ]
                    yield from pool.map(describe, samples)
                else:
                    content = map_file(folder, entry.name)
                    yield from (describe(content[start:stop]) for start, stop in byte_ranges)
            except (OSError, ShardError) as error:
                raise ShardError(
                    f"{folder}/{entry.name} is missing or damaged ({error}); find all damage with "
                    f"`python shard_tools/verify_shards.py {folder}`"
                ) from None


class _RemoteSample:
    """A sample in a store, read in pieces; adjacent parts are read at once."""

    def __init__(self, store: Store, name: str, start: int, stop: int):
        self._store, self._name, self._start, self._stop = store, name, start, stop
        self._piece, self._piece_start = b"", 0

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, part: slice) -> bytes:
        first, end = part.start - self._piece_start, part.stop - self._piece_start
        if not 0 <= first <= end <= len(self._piece):
            start = self._start + part.start
            stop = min(max(start + _PIECE, self._start + part.stop), self._stop)
            self._piece = fetch_bytes(self._store, self._name, INTERACTIVE, (start, stop))
            self._piece_start = part.start
            first, end = 0, part.stop - part.start
        return self._piece[first:end]


def _find_ranges(folder: str | Path) -> Store | None:
    """Opens a store that serves byte ranges; None if there is none."""
    if not is_url(folder):
        return None
    store = open_store(folder, INTERACTIVE.timeout)
    has_ranges = with_retries(
        store, MANIFEST_NAME, lambda: store.has_ranges(MANIFEST_NAME), INTERACTIVE
    )
    return store if has_ranges else None


def _are_numbers(value: Any, shape: tuple[int, ...]) -> bool:
    try:
        return np.array(value, np.float64).shape == shape and value is not None
    except (TypeError, ValueError):
        return False
