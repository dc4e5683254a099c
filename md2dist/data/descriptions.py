"""What samples say of themselves, read without their images."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from md2dist.data.kitti import CAMERAS
from md2dist.data.shard_format import read_manifest, sample_members
from md2dist.data.splits import SplitLine
from md2dist.data.tar_structure import map_file
from md2dist.errors import ShardError


def read_descriptions(folder: str | Path) -> Iterator[dict[str, Any]]:
    """Reads the ``json`` member of every sample, in the order of the shards.

    Only the pages of the files that hold headers and descriptions are read.

    Raises:
        ShardError: if there is no usable manifest, or a shard is missing or damaged.
    """
    for entry in read_manifest(folder).shards:
        path = Path(folder) / entry.name
        try:
            content = map_file(path)
            for i in range(entry.count):
                start, stop = entry.offsets[i : i + 2].tolist()
                yield json.loads(bytes(sample_members(content[start:stop])["json"]))
        except (OSError, ValueError, KeyError) as error:
            raise ShardError(
                f"{path} is missing or damaged ({error}); find all damage with "
                f"`python shard_tools/verify_shards.py {folder}`"
            ) from None


def described_line(info: dict[str, Any]) -> SplitLine:
    """Tells which line of a split a sample is.

    Raises:
        ShardError: if its description does not say so.
    """
    date, drive, frame, side = (info.get(name) for name in ("date", "drive", "frame", "side"))
    is_sound = isinstance(date, str) and isinstance(drive, str) and isinstance(frame, int)
    if not is_sound or side not in CAMERAS:
        raise ShardError(f"no date, drive, frame and side in the description {info}")
    return SplitLine(f"{date}/{drive}", frame, side)
