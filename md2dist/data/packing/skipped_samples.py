"""Skipped samples: one line each in ``skipped.jsonl``, and one entry per drive in the manifest."""

import json
from collections.abc import Iterable

from md2dist.data.kitti.splits import SkippedLine
from md2dist.data.shards.manifest import SkippedDrive
from md2dist.storage.typed_json import make_printable


def encode_skipped(lines: Iterable[SkippedLine]) -> bytes:
    """Returns the contents of ``skipped.jsonl``: an object per sample, in the order given.

    Its keys are drive, frame, side (null for a whole drive) and reason.
    """
    objects = (line._replace(reason=make_printable(line.reason))._asdict() for line in lines)
    return "".join(json.dumps(item) + "\n" for item in objects).encode()


def summarize_skipped(lines: Iterable[SkippedLine]) -> tuple[SkippedDrive, ...]:
    """Returns an entry per drive, in the order of their first samples."""
    drives: dict[str, list[SkippedLine]] = {}
    for line in lines:
        drives.setdefault(line.drive, []).append(line)
    return tuple(
        SkippedDrive(drive if found[1:] else str(found[0]), found[0].reason, len(found))
        for drive, found in drives.items()
    )
