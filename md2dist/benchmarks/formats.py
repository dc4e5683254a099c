"""Benchmark of the image formats of shards, through the code that packs and reads them."""

import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, get_args

import webdataset.writer  # noqa: F401  packing imports it late, which would be timed

from md2dist.data.images import ImageFormat
from md2dist.data.kitti.splits import SplitLine
from md2dist.data.packing.merge import merge_shards
from md2dist.data.packing.plan import library_versions, plan_samples
from md2dist.data.packing.source import FrameSource
from md2dist.data.packing.writer import pack_shards
from md2dist.data.shards.dataset import ShardDataset
from md2dist.data.shards.recipe import Recipe
from md2dist.errors import ConfigError


class _Trial(NamedTuple):
    """Times of one packing and of reading its shards."""

    num_images: int
    pack_seconds: float
    num_bytes: int
    read_seconds: list[float]  # of each sample


def bench_formats(
    source: FrameSource, lines: Sequence[SplitLine], recipe: Recipe, num_repeats: int
) -> list[dict[str, Any]]:
    """Packs the same samples in each format, in turn, and reads them back.

    Times are CPU times of this process, so other processes of the machine do not matter. The shards
    are written to a temporary folder and removed.

    Args:
        source: where the frames come from.
        lines: the samples.
        recipe: their recipe, except for the image format.
        num_repeats: number of packings in each format.

    Returns:
        Figures per format: medians, over the packings, of the distinct images packed in a second,
        from the camera's files to the manifest; over the samples, of the milliseconds to read and
        decode one with all its views; the bytes of a sample; and the conditions of the measurement.

    Raises:
        ConfigError: if there is nothing to time.
        KittiDataError: if a file of a sample is missing or damaged.
    """
    if num_repeats < 1 or not lines:
        raise ConfigError(
            f"--repeats {num_repeats}, and {len(lines)} samples: expected >= 1 of both"
        )
    trials: dict[ImageFormat, list[_Trial]] = defaultdict(list)
    for _ in range(num_repeats):
        for image_format in get_args(ImageFormat):
            asked = replace(recipe, image_format=image_format)
            trials[image_format].append(_try_format(source, lines, asked))
    return [
        {
            "benchmark": "formats",
            "image_format": name if name != "jpg" else f"{name} {recipe.image_quality}",
            "images_per_second_per_core": statistics.median(
                trial.num_images / trial.pack_seconds for trial in done
            ),
            "bytes_per_sample": round(done[0].num_bytes / len(lines)),
            "decode_ms_per_sample": 1000
            * statistics.median(second for trial in done for second in trial.read_seconds),
            "size": f"{recipe.width}x{recipe.height}",
            "views": 1 + len(recipe.frame_offsets) + recipe.use_stereo,
            "samples": len(lines),
            "images": done[0].num_images,
            "machine": platform.machine(),
            "pillow": library_versions()["pillow"],
        }
        for name, done in trials.items()
    ]


def _try_format(source: FrameSource, lines: Sequence[SplitLine], recipe: Recipe) -> _Trial:
    plan = plan_samples(source, lines, recipe)
    with TemporaryDirectory() as name:
        folder = Path(name)
        start = time.process_time()
        progress = pack_shards(plan, folder)
        manifest = merge_shards(plan, folder)
        pack_seconds = time.process_time() - start
        return _Trial(
            num_images=progress.num_images,
            pack_seconds=pack_seconds,
            num_bytes=sum(shard.num_bytes for shard in manifest.shards),
            read_seconds=_time_samples(ShardDataset(folder)),
        )


def _time_samples(dataset: ShardDataset) -> list[float]:
    seconds = []
    for index in range(len(dataset)):
        start = time.process_time()
        dataset[index]
        seconds.append(time.process_time() - start)
    return seconds
