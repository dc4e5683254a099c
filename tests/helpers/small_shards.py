"""Small shards of random images, for tests that need samples but not KITTI."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from webdataset import TarWriter

from md2dist.data.shards.entry import describe_shard
from md2dist.data.shards.manifest import FORMAT_VERSION, Manifest, write_manifest
from md2dist.data.shards.recipe import Recipe, view_names
from md2dist.data.shards.sparse_depth import encode_sparse_depth


def write_small_shards(
    folder: str | Path,
    num_samples: int = 10,
    height: int = 32,
    width: int = 64,
    frame_offsets: Sequence[int] = (-1, 1),
    use_stereo: bool = True,
    samples_per_shard: int = 4,
    image_format: str = "png",
    ground_truth: str = "none",
    seed: int = 0,
) -> Path:
    """Writes shards of random pixels, with left and right targets in turn; returns the folder.

    View v of sample i is `small_image(i, v, height, width, seed)`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    views = view_names(frame_offsets, use_stereo)
    shards = []
    for first in range(0, num_samples, samples_per_shard):
        path = folder / f"shard-{len(shards):06d}.tar"
        offsets = [0]
        with TarWriter(str(path), mtime=0) as tar:
            for i in range(first, min(first + samples_per_shard, num_samples)):
                info = small_info(i, height, width)
                sample: dict[str, Any] = {"__key__": info["key"]}
                for view in views:
                    image = small_image(i, view, height, width, seed)
                    sample[f"{view}.{image_format}"] = _encode(image, image_format)
                sample["json"] = json.dumps(info).encode()
                if ground_truth != "none":
                    depth = small_depth(i, info["native_height"], info["native_width"], seed)
                    sample[f"{ground_truth}.npz"] = encode_sparse_depth(depth)
                tar.write(sample)
                offsets.append(tar.tarstream.offset)
        shards.append(describe_shard(path, np.array(offsets)))
    recipe = Recipe(
        split="small",
        height=height,
        width=width,
        frame_offsets=tuple(frame_offsets),
        use_stereo=use_stereo,
        image_format=image_format,
        samples_per_shard=samples_per_shard,
        seed=seed,
        ground_truth=ground_truth,
    )
    write_manifest(Manifest(recipe, tuple(shards)), folder)
    return folder


def small_info(i: int, height: int, width: int) -> dict[str, Any]:
    """Returns the content of the json member of sample i."""
    side = "lr"[i % 2]
    drive = "2011_09_26_drive_0001_sync"
    return {
        "format_version": FORMAT_VERSION,
        "key": f"{drive}_{side}_{i:010d}",
        "date": "2011_09_26",
        "drive": drive,
        "frame": i,
        "side": side,
        "width": width,
        "height": height,
        "native_width": 2 * width,
        "native_height": 2 * height,
        "K": [[0.6 * width, 0, 0.49 * width + i % 10], [0, 2.0 * height, 0.46 * height], [0, 0, 1]],
        "baseline": 0.54,
    }


def small_image(i: int, view: str, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Returns one view, (height, width, 3) uint8; samples that share a frame share its pixels."""
    side = (i + 1) % 2 if view == "s" else i % 2
    frame = i if view == "s" else i + int(view)
    rng = np.random.default_rng([seed, 1000 + frame, side])
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def small_depth(i: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Returns sparse depth of sample i, (height, width) float32 in m, about 5 % valid pixels."""
    rng = np.random.default_rng([seed, i, 99])
    known = rng.random((height, width)) < 0.05
    return np.where(known, rng.uniform(2, 79, (height, width)), 0).astype(np.float32)


def _encode(image: np.ndarray, image_format: str) -> bytes:
    stream = io.BytesIO()
    options = {"jpg": {"quality": 95}, "png": {}, "webp": {"lossless": True}}[image_format]
    Image.fromarray(image).save(stream, {"jpg": "jpeg"}.get(image_format, image_format), **options)
    return stream.getvalue()
