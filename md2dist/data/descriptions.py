"""What samples say of themselves, read without their images."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def read_lines(folder: str | Path) -> list[SplitLine]:
    """Lists which lines of a split the samples of a folder are; raises as `read_descriptions`."""
    return [
        SplitLine(info["drive"], info["frame"], info["side"]) for info in read_descriptions(folder)
    ]
