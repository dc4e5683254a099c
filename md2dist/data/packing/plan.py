"""Packing plan: the files of every sample, found before the first one is read."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import PIL.features

from md2dist.data.inspection.sample_check import image_of_view
from md2dist.data.kitti.splits import SkippedLine, SplitLine
from md2dist.data.packing.camera_check import CameraCheck
from md2dist.data.packing.source import FrameSequence, FrameSource, SourceFiles
from md2dist.data.shards.manifest import FORMAT_VERSION
from md2dist.data.shards.recipe import MAX_OFFSET, MAX_SIZE, Recipe, is_valid_offsets, view_names
from md2dist.data.video import is_video_frame
from md2dist.errors import ConfigError, KittiDataError
from md2dist.storage.open_store import is_url


class PlannedSample(NamedTuple):
    """A line of the split and its files, by their names in the source."""

    line: SplitLine
    views: dict[str, str]  # from view names to images
    ground_truth: str | None  # source file of the ground truth


class Plan(NamedTuple):
    """A packing: the samples of every shard, and their recipe."""

    source: FrameSource
    recipe: Recipe
    samples: Sequence[PlannedSample]  # in the order of the shards
    skipped: Sequence[SkippedLine]  # lines of the split, or drives of its rule, without a file
    skip_bad: bool  # skip samples with a damaged file, too

    @property
    def shards(self) -> list[Sequence[PlannedSample]]:
        """Samples of each shard."""
        size = self.recipe.samples_per_shard
        return [self.samples[i : i + size] for i in range(0, len(self.samples), size)]

    def files(self) -> list[str]:
        """Returns the source files of all samples, sorted by name."""
        names = {name for sample in self.samples for name in sample.views.values()}
        names |= {sample.ground_truth for sample in self.samples if sample.ground_truth}
        for drive in {sample.line.drive for sample in self.samples}:
            sequence = self.source.open_sequence(drive, self.recipe.ground_truth)
            names.update(sequence.camera_files())
        return sorted(names)

    def libraries(self) -> dict[str, str]:
        """Returns the versions of all libraries that determine the bytes of the shards."""
        images = (name for sample in self.samples for name in sample.views.values())
        decodes_videos = any(is_video_frame(name) for name in images)
        return library_versions() | ({"av": version("av")} if decodes_videos else {})

    def fingerprint(self) -> dict[str, Any]:
        """Returns, as JSON values, all that determines the bytes except the sources' contents."""
        lines = [str(sample.line) for sample in self.samples]
        lines += [f"skipped: {skipped}" for skipped in self.skipped]  # reasons are for people
        listing = "\n".join(lines).encode(
            errors="surrogateescape"
        )  # names of files may be any bytes
        return {
            "format_version": FORMAT_VERSION,
            **asdict(self.recipe),
            "frame_offsets": list(self.recipe.frame_offsets),
            "libraries": self.libraries(),
            "samples": hashlib.sha256(listing).hexdigest(),
        }


def describe_differences(plan: Plan, other: Mapping[str, Any]) -> str:
    """Returns the differences of another plan's fingerprint from that of a plan, as text."""
    requested = plan.fingerprint()
    return ", ".join(
        name
        if name in ("samples", "libraries")
        else f"{name} (found {other.get(name)}, requested {requested[name]})"
        for name in sorted(requested)
        if other.get(name) != requested[name]
    )


def check_request(recipe: Recipe) -> None:
    """Checks the values of a recipe.

    Raises:
        ConfigError: naming the option of the packing command.
    """
    for option, size in (("--height", recipe.height), ("--width", recipe.width)):
        if size is not None and (not 0 < size <= MAX_SIZE or size % 32):
            raise ConfigError(f"{option} {size}: expected a multiple of 32 from 32 to {MAX_SIZE}")
    offsets = list(recipe.frame_offsets)
    if not is_valid_offsets(offsets):
        raise ConfigError(
            f"--frame-offsets {' '.join(map(str, offsets))}: expected ascending distinct numbers "
            f"without 0 (the target is always packed), e.g. -1 1, and at most {MAX_OFFSET}"
        )
    if recipe.samples_per_shard < 1:
        raise ConfigError(f"--samples-per-shard {recipe.samples_per_shard}: expected >= 1")
    if not 1 <= recipe.image_quality <= 100:
        raise ConfigError(f"--quality {recipe.image_quality}: expected 1 to 100")
    if not 0 <= recipe.seed < 2**63:
        raise ConfigError(f"--seed {recipe.seed}: expected 0 <= seed < 2**63")


def check_tasks(num_tasks: int, task_index: int = 0, num_processes: int = 1) -> None:
    """Checks the numbers of tasks and processes.

    Raises:
        ConfigError: naming the options of the packing command.
    """
    if not 0 <= task_index < num_tasks:
        raise ConfigError(
            f"--task-index {task_index} --num-tasks {num_tasks}: expected 0 <= index < number of "
            "tasks"
        )
    if num_processes < 1:
        raise ConfigError(f"--processes {num_processes}: expected >= 1")


def check_output(output: str) -> None:
    """Checks that the output is a local folder.

    Raises:
        ConfigError: if it is a URL.
    """
    if is_url(output):
        raise ConfigError(
            f"--output {output}: shards are packed into a local folder; copy it afterwards with "
            "index.json, e.g. with `aws s3 sync FOLDER s3://BUCKET/NAME`"
        )


def library_versions() -> dict[str, str]:
    """Returns the versions of all libraries that determine the bytes of shards of images."""
    packages = {name: version(name) for name in ("md2dist", "numpy", "pillow", "webdataset")}
    codecs = {
        name: PIL.features.version(name) for name in ("libjpeg_turbo", "zlib", "zlib_ng", "webp")
    }
    return packages | {name: found for name, found in codecs.items() if found}


def plan_samples(
    source: FrameSource,
    lines: Iterable[SplitLine],
    recipe: Recipe,
    *,
    skip_bad: bool = False,
    skipped: Sequence[SkippedLine] = (),
) -> Plan:
    """Finds the files of all samples, and orders the samples.

    Args:
        source: where the frames come from.
        lines: the split.
        recipe: the recipe of the shards.
        skip_bad: skip samples without a file, instead of raising at the first.
        skipped: lines that the split skipped for such a reason.

    Returns:
        The plan, with the samples in the split's order, or shuffled with the recipe's seed.

    Raises:
        KittiDataError: if a file is missing, or a calibration damaged or implausible; with
            `skip_bad`, if that is so for every sample.
    """
    open_sequence = cache(lambda name: source.open_sequence(name, recipe.ground_truth))
    cameras = CameraCheck(source.files, recipe)
    samples: list[PlannedSample] = []
    all_skipped = list(skipped)
    for line in lines:
        try:
            sequence = open_sequence(line.drive)
            sample = _find_files(sequence, line, recipe)
            cameras.check(sequence, line, sample.views["0"])
            samples.append(sample)
        except KittiDataError as error:
            if not skip_bad:
                hint = source.explain_missing(line.drive, recipe.ground_truth)
                reason = KittiDataError(f"{line}: {error}{hint}")
                raise refuse_sample(source.files, reason) from None
            all_skipped.append(SkippedLine(*line, str(error)))
    if not samples:
        raise KittiDataError(
            f"nothing to pack from {source.files}; first reason: {all_skipped[0].reason}; "
            + source.describe()
        )
    if recipe.order == "shuffled":
        order = np.random.default_rng(recipe.seed).permutation(len(samples))
        samples = [samples[i] for i in order]
    return Plan(source, recipe, samples, all_skipped, skip_bad)


def refuse_sample(files: SourceFiles, error: KittiDataError) -> KittiDataError:
    """Returns the error with the remedy --skip-bad."""
    return KittiDataError(f"{error} (in {files}; --skip-bad skips such samples)")


def _find_files(sequence: FrameSequence, line: SplitLine, recipe: Recipe) -> PlannedSample:
    if recipe.use_stereo:
        sequence.check_stereo(line.side)
    names = view_names(recipe.frame_offsets, recipe.use_stereo)
    views = {name: _find_view(sequence, line, name) for name in names}
    has_ground_truth = recipe.ground_truth != "none"
    truth = sequence.find_ground_truth(line.frame, line.side) if has_ground_truth else None
    return PlannedSample(line, views, truth)


def _find_view(sequence: FrameSequence, line: SplitLine, view: str) -> str:
    image = image_of_view(line, view)
    try:
        return sequence.find_image(image.frame, image.side)
    except KittiDataError as error:
        if image.frame == line.frame:
            raise
        raise KittiDataError(f"no neighbour at offset {view}: {error}") from None
