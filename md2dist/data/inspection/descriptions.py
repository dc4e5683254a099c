"""Metadata of samples, read without their images."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from md2dist.data.kitti.splits import SplitLine
from md2dist.data.shards.manifest import MANIFEST_NAME, read_manifest
from md2dist.data.shards.sample_info import parse_info
from md2dist.data.shards.tar_sample import SampleBytes, find_member
from md2dist.errors import ShardError
from md2dist.storage.addresses import public_address
from md2dist.storage.open_store import is_url, map_file, open_store
from md2dist.storage.retries import INTERACTIVE
from md2dist.storage.store import NUM_AT_ONCE, Store, fetch_bytes, with_retries

_PIECE = 2048  # bytes: a header and the metadata after it


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
        return parse_info(find_member(sample, "json"))

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
                    content = map_file(folder, entry.name, entry.num_bytes)
                    yield from (describe(content[start:stop]) for start, stop in byte_ranges)
            except (OSError, ShardError) as error:
                place = public_address(str(folder))
                raise ShardError(
                    f"{place}/{entry.name} is missing or damaged ({error}); find all damage with "
                    f"`md2dist verify {place}`"
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
            self._piece = fetch_bytes(
                self._store, self._name, INTERACTIVE, (start, stop), max_bytes=stop - start
            )
            self._piece_start = part.start
            first, end = 0, part.stop - part.start
        return self._piece[first:end]


def _find_ranges(folder: str | Path) -> Store | None:
    """Opens a store that serves byte ranges; None if there is none."""
    if not is_url(folder):
        return None
    store = open_store(folder, INTERACTIVE.timeout)
    has_ranges = with_retries(
        store, MANIFEST_NAME, lambda transfer: store.has_ranges(MANIFEST_NAME), INTERACTIVE
    )
    return store if has_ranges else None
