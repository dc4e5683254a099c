"""Verification of a folder of shards, with all faults in one list."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from md2dist.data.inspection.cross_check import (
    find_duplicates,
    find_inconsistent_images,
    find_leaks,
    find_unlisted_shards,
    frame_gaps,
    shown_moments,
)
from md2dist.data.inspection.descriptions import read_descriptions, split_line_of
from md2dist.data.inspection.shard_check import Decode, Fault, check_shards
from md2dist.data.shards.manifest import Manifest, read_manifest
from md2dist.errors import ConfigError


class VerificationReport(NamedTuple):
    """Result of the verification of a folder."""

    manifest: Manifest
    num_found: int  # number of samples with readable metadata
    faults: list[Fault]
    gaps: dict[str, list[int]]  # lengths of the gaps of each drive, in frames; not faults


def verify_shards(
    folder: str | Path,
    *,
    decode: Decode = "all",
    against: str | Path | None = None,
    seed: int = 0,
    processes: int = 1,
    on_shard: Callable[[int], object] = lambda num_bytes: None,
) -> VerificationReport:
    """Verifies a folder of shards and reports all faults.

    Args:
        folder: folder or URL of ``index.json`` and the shards.
        decode: whether to decode images and ground truth of all samples, of a random sample per
            shard, or of none.
        against: a folder of evaluation shards, with which no frame may be shared.
        seed: seed of the random sample.
        processes: number of shards checked in parallel, one per process.
        on_shard: called with the size in bytes of each checked shard.

    Returns:
        The report; faults of single shards come first.

    Raises:
        ShardError: if a manifest cannot be used, or the evaluation shards are damaged.
        ConfigError: if `seed` is negative, or the number of processes is not positive.
    """
    if seed < 0:
        raise ConfigError(f"--seed {seed}: expected >= 0")
    manifest = read_manifest(folder)
    evaluated = set()
    if against is not None:
        others = map(split_line_of, read_descriptions(against))
        evaluated = shown_moments(others, read_manifest(against).recipe)
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
        *find_leaks(shown_moments(lines, manifest.recipe), evaluated),
    ]
    return VerificationReport(manifest, len(lines), faults, frame_gaps(lines))
