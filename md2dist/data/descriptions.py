"""What samples say of themselves, read without their images."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from md2dist.data.kitti_layout import CAMERAS
from md2dist.data.shard_format import read_manifest, sample_members
from md2dist.data.splits import SplitLine
from md2dist.data.stores import map_file
from md2dist.errors import ShardError

_STRINGS = ("key", "date", "drive", "side")
_INTEGERS = ("format_version", "frame", "width", "height", "native_width", "native_height")


def parse_description(content: bytes | memoryview) -> dict[str, Any]:
    """Parses the ``json`` member of a sample.

    Returns:
        An object with at least: ``key``, ``date``, ``drive``, ``side`` as strings;
        ``format_version``, ``frame``, ``width``, ``height``, ``native_width``, ``native_height``
        as integers; ``K`` as 3x3 numbers, ``baseline`` as a number.

    Raises:
        ShardError: if it is anything else.
    """
    try:
        info = json.loads(bytes(content))
    except ValueError as error:
        raise ShardError(f"json does not parse: {error}") from None
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
        raise ShardError(f"json lacks, or has in another form: {', '.join(wrong)}")
    return info


def described_line(info: dict[str, Any]) -> SplitLine:
    """Tells which line of a split a sample is, by its description."""
    drive = "/".join(filter(None, (info["date"], info["drive"])))
    return SplitLine(drive, info["frame"], info["side"])


def read_descriptions(folder: str | Path) -> Iterator[dict[str, Any]]:
    """Reads the description of every sample, in the order of the shards.

    Only the pages of the files that hold headers and descriptions are read; a store gives each
    shard as a whole.

    Raises:
        ShardError: if there is no usable manifest, or a shard is missing or damaged.
    """
    for entry in read_manifest(folder).shards:
        try:
            content = map_file(folder, entry.name)
            for i in range(entry.count):
                start, stop = entry.offsets[i : i + 2].tolist()
                yield parse_description(sample_members(content[start:stop])["json"])
        except (OSError, ShardError, KeyError) as error:
            raise ShardError(
                f"{folder}/{entry.name} is missing or damaged ({error}); find all damage with "
                f"`python shard_tools/verify_shards.py {folder}`"
            ) from None


def _are_numbers(value: Any, shape: tuple[int, ...]) -> bool:
    try:
        return np.array(value, np.float64).shape == shape and value is not None
    except (TypeError, ValueError):
        return False
