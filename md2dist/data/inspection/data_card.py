"""Data-set card: the contents of a folder of shards as text."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from md2dist.data.inspection.cross_check import frame_gaps
from md2dist.data.inspection.descriptions import read_descriptions, split_line_of
from md2dist.data.kitti.splits import SplitLine
from md2dist.data.shards.manifest import Manifest, read_manifest
from md2dist.data.shards.recipe import view_names
from md2dist.errors import ShardError
from md2dist.storage.addresses import public_address


def describe_shards(folder: str | Path) -> str:
    """Returns the data-set card of a folder of shards.

    Raises:
        ShardError: if the manifest cannot be used, or a shard is missing or damaged.
    """
    manifest = read_manifest(folder)
    infos = list(read_descriptions(folder))
    if not infos:
        raise ShardError(
            f"{public_address(str(folder))} holds no samples; pack again with another split"
        )
    rows = {**describe_manifest(manifest), **_describe_cameras(infos)}
    width = max(map(len, rows))
    lines = [
        public_address(str(folder)),
        "",
        *(f"{name:<{width}}  {text}" for name, text in rows.items()),
    ]
    return "\n".join([*lines, "", *_drive_table([split_line_of(info) for info in infos])])


def describe_manifest(manifest: Manifest) -> dict[str, str]:
    """Returns the rows of the card for which no sample is read."""
    recipe = manifest.recipe
    num_bytes = sum(shard.num_bytes for shard in manifest.shards)
    views = view_names(recipe.frame_offsets, recipe.use_stereo)
    quality = f", quality {recipe.image_quality}" if recipe.image_format == "jpg" else ""
    return {
        "split": recipe.split,
        "samples": f"{manifest.num_samples:,} in {len(manifest.shards):,} shards, "
        f"{manifest.num_skipped:,} skipped",
        "bytes": f"{_format_bytes(num_bytes)}, "
        f"{_format_bytes(num_bytes / max(manifest.num_samples, 1))} per sample",
        "images": f"{recipe.image_format}{quality}, views {' '.join(views)}",
        "order": f"{recipe.order}, seed {recipe.seed}",
        "ground truth": recipe.ground_truth,
        "packed with": ", ".join(f"{name} {v}" for name, v in manifest.versions.items()) or "?",
    }


def _describe_cameras(infos: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Returns sizes, and ranges of the intrinsics in packed pixels and relative to the image."""
    K = np.array([info["K"] for info in infos], np.float64)
    packed = np.array([[info["width"], info["height"]] for info in infos])
    rows = {}
    for name, prefix in (("packed size", ""), ("native size", "native_")):
        sizes = Counter(f"{info[f'{prefix}height']}x{info[f'{prefix}width']}" for info in infos)
        rows[name] = ", ".join(f"{size} ({count:,})" for size, count in sizes.most_common())
    for name, row, column in (("fx", 0, 0), ("fy", 1, 1), ("cx", 0, 2), ("cy", 1, 2)):
        pixels, axis = K[:, row, column], "WH"[row]
        shares = pixels / packed[:, row]
        rows[name] = f"{_format_range(pixels, 1)} px = {_format_range(shares, 3)} {axis}"
    rows["baseline"] = f"{_format_range([info['baseline'] for info in infos], 3)} m"
    return rows


def _drive_table(lines: Sequence[SplitLine]) -> list[str]:
    """Returns a table with one row per drive: samples of each side, frames and gaps."""
    sides = Counter((line.drive, line.side) for line in lines)
    rows = [("drive", "left", "right", "share", "frames", "gaps", "longest")]
    for drive, gaps in frame_gaps(lines).items():
        left, right = sides[drive, "l"], sides[drive, "r"]
        frames = [line.frame for line in lines if line.drive == drive]
        rows.append((
            drive.rpartition("/")[2],
            f"{left:,}",
            f"{right:,}",
            f"{(left + right) / len(lines):.1%}",
            f"{min(frames)}-{max(frames)}",
            str(len(gaps)),
            str(max(gaps, default=0)),
        ))  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        f"{name:<{widths[0]}}  "
        + "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        for name, *cells in rows
    ]


def _format_range(values: Sequence[float] | np.ndarray, digits: int) -> str:
    """Formats the range of values of any shape."""
    low, high = f"{np.min(values):.{digits}f}", f"{np.max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def _format_bytes(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.{0 if unit == 'B' else 1}f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
