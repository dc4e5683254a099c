"""Verification: all faults of a folder of shards."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from md2dist.data.inspection.cross_check import (
    find_duplicates,
    find_inconsistent_images,
    find_leaks,
    find_unlisted_shards,
    frame_gaps,
    shown_frames,
)
from md2dist.data.inspection.descriptions import read_descriptions, split_line_of
from md2dist.data.inspection.shard_check import Decode, Fault, check_shards
from md2dist.data.shards.manifest import Manifest, read_manifest
from md2dist.errors import ConfigError


class VerificationReport(NamedTuple):
    """Result of the verification of a folder."""

    manifest: Manifest
    num_found: int  # samples with readable metadata
    faults: list[Fault]
    gaps: dict[str, list[int]]  # frames missing in each gap of each drive; not a fault


def verify_shards(
    folder: str | Path,
    *,
    decode: Decode = "all",
    against: str | Path | None = None,
    seed: int = 0,
    processes: int = 1,
    on_shard: Callable[[int], object] = lambda num_bytes: None,
) -> VerificationReport:
    """Finds all faults of a folder of shards.

    Args:
        folder: folder or URL of ``index.json`` and the shards.
        decode: images and ground truth of all samples, of a random few per shard, or of none.
        against: a folder of evaluation shards, which must show no frame of the same drive.
        seed: seed of the random choice.
        processes: number of worker processes.
        on_shard: called with the size of each checked shard, in bytes.

    Returns:
        The faults, those of single shards first.

    Raises:
        ShardError: if a manifest cannot be used, or the evaluation shards are damaged.
        ConfigError: if `seed` is negative, or the number of processes not positive.
    """
    if seed < 0:
        raise ConfigError(f"--seed {seed}: expected >= 0")
    manifest = read_manifest(folder)
    evaluated = set()
    if against is not None:
        others = map(split_line_of, read_descriptions(against))
        evaluated = shown_frames(others, read_manifest(against).recipe)
    reports = []
    checks = check_shards(folder, manifest, decode=decode, seed=seed, processes=processes)
    for entry, report in zip(manifest.shards, checks, strict=True):
        reports.append(report)
        on_shard(entry.num_bytes)
    lines = [sample.line for report in reports for sample in report.samples]
    faults = [
        *(fault for report in reports for fault in report.faults),
        *find_unlisted_shards(folder, manifest),
        *find_duplicates(reports),
        *find_inconsistent_images(reports),
        *find_leaks(shown_frames(lines, manifest.recipe), evaluated),
    ]
    return VerificationReport(manifest, len(lines), faults, frame_gaps(lines))
