"""All faults of a folder of shards, in one list."""

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
    """What a check of a whole folder has found."""

    manifest: Manifest
    num_found: int  # samples whose description can be read
    faults: list[Fault]
    gaps: dict[str, list[int]]  # frames that each drive leaves out, gap by gap: no fault


def verify_shards(
    folder: str | Path,
    *,
    decode: Decode = "all",
    against: str | Path | None = None,
    seed: int = 0,
    processes: int = 1,
    on_shard: Callable[[int], object] = lambda num_bytes: None,
) -> VerificationReport:
    """Looks for everything that is wrong with a folder of shards.

    Args:
        folder: of ``index.json`` and the shards, or its address.
        decode: images and ground truth of all samples, of a random few per shard, or of none.
        against: a folder of evaluation shards, which must show no frame of the same drive.
        seed: of the random choice.
        processes: shards that are checked at the same time.
        on_shard: is told the size of each shard done with, in bytes.

    Returns:
        The faults, those of single shards first.

    Raises:
        ShardError: if a manifest cannot be used, or the evaluation shards are damaged.
        ConfigError: if `seed` is negative, or there would be no process.
    """
    if seed < 0:
        raise ConfigError(f"--seed {seed}: expected zero or a positive number")
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
