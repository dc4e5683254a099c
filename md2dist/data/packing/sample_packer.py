"""Sample packer: the members of one sample, from stored images and the source's files."""

import json
import math
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

from md2dist.data.images import resize_intrinsics
from md2dist.data.inspection.sample_check import check_depth, check_sample
from md2dist.data.intrinsics import Camera
from md2dist.data.kitti.splits import SplitLine
from md2dist.data.packing.image_store import StoredImage
from md2dist.data.packing.plan import PlannedSample
from md2dist.data.packing.source import FrameSequence, FrameSource
from md2dist.data.packing.source_files import Fingerprint, read_source
from md2dist.data.shards.manifest import FORMAT_VERSION
from md2dist.data.shards.recipe import Recipe
from md2dist.data.shards.sparse_depth import encode_sparse_depth
from md2dist.errors import KittiDataError, ShardError


class SamplePacker:
    """Packs the samples of one shard.

    Args:
        source: where the frames come from.
        recipe: the recipe of the shards.
        folder: folder of the stored images.
        images: the stored images, by their names in the source.
        broken: reasons for images that are not stored.

    Attributes:
        sources: fingerprints of all files of the packed samples, by their names in the source.
    """

    def __init__(
        self,
        source: FrameSource,
        recipe: Recipe,
        folder: Path,
        images: Mapping[str, StoredImage],
        broken: Mapping[str, str],
    ):
        self.files = source.files
        self.recipe = recipe
        self.folder = folder
        self.images = images
        self.broken = broken
        self.sources: dict[str, Fingerprint] = {}
        self._open = cache(lambda name: source.open_sequence(name, recipe.ground_truth))

    def pack(self, sample: PlannedSample) -> dict[str, str | bytes]:
        """Returns the members of one sample.

        Returns:
            ``__key__``, an encoded image per view, ``json``, and, if requested, the ground truth: a
            depth map at native size.

        Raises:
            ShardError: if a stored image is damaged.
            KittiDataError: if a file is damaged, the calibration is missing, the images differ in
                size from each other or from the calibration, the ground truth has no plausible
                depth, or verification would find a fault.
        """
        line, suffix = sample.line, self.recipe.image_format
        views = {name: self._find_image(file) for name, file in sample.views.items()}
        native_size = _common_native_size(sample, views)
        members = {f"{name}.{suffix}": self._read_image(view) for name, view in views.items()}
        # Fingerprints first: a file that is replaced meanwhile then counts as changed.
        sources = {file: views[name].source for name, file in sample.views.items()}
        sequence = self._open(line.drive)
        for file in (*sequence.camera_files(), sample.ground_truth):
            if file and file not in self.sources:
                sources[file] = read_source(self.files, file)[1]
        camera = sequence.read_camera(line.side)
        has_ground_truth = sample.ground_truth is not None
        sequence.check_size(line.frame, line.side, native_size, has_ground_truth=has_ground_truth)
        info = self._describe(line, camera, native_size)
        members["json"] = json.dumps(info, separators=(",", ":")).encode()
        if (name := self.recipe.ground_truth_name) and sample.ground_truth:
            depth = _read_ground_truth(sequence, line, sample.ground_truth, native_size)
            members[name] = encode_sparse_depth(depth)
        if faults := check_sample(line.key, members, self.recipe, decode=False):
            raise KittiDataError(
                f"{line} cannot be packed: {'; '.join(faults)}; correct the calibration of "
                f"{line.drive}"
            )
        self.sources |= sources
        return {"__key__": line.key, **members}

    def _describe(
        self, line: SplitLine, camera: Camera, native_size: tuple[int, int]
    ) -> dict[str, object]:
        date, _, drive = line.drive.rpartition("/")
        height, width = self.recipe.height or native_size[0], self.recipe.width or native_size[1]
        return {
            "format_version": FORMAT_VERSION,
            "key": line.key,
            "date": date,
            "drive": drive,
            "frame": line.frame,
            "side": line.side,
            "width": width,
            "height": height,
            "native_width": native_size[1],
            "native_height": native_size[0],
            # From the calibrated size, so frames that were resized before are right, too.
            "K": resize_intrinsics(camera.K, camera.size or native_size, (height, width)).tolist(),
            "baseline": self._find_baseline(camera),
        }

    def _find_baseline(self, camera: Camera) -> float:
        # A single camera may come with zeros for the other one.
        is_known = self.recipe.use_stereo or math.isfinite(camera.baseline)
        return camera.baseline if is_known else 0.0

    def _find_image(self, name: str) -> StoredImage:
        if name in self.broken:
            raise KittiDataError(self.broken[name])
        return self.images[name]

    def _read_image(self, image: StoredImage) -> bytes:
        path = self.folder / image.file
        with path.open("rb") as stream:
            stream.seek(image.start)
            encoded = stream.read(image.stop - image.start)
        if image.crc32 not in (None, zlib.crc32(encoded)):
            raise ShardError(f"{path} is damaged; delete it, and repeat the command")
        return encoded


def _common_native_size(sample: PlannedSample, views: Mapping[str, StoredImage]) -> tuple[int, int]:
    """Returns the height and width of the camera's files, which all views share."""
    sizes = {(v.native_height, v.native_width): sample.views[name] for name, v in views.items()}
    if len(sizes) > 1:
        listed = ", ".join(f"{file} is {h}x{w}" for (h, w), file in sizes.items())
        raise KittiDataError(
            f"the images of {sample.line} differ in size: {listed}; extract them again"
        )
    return next(iter(sizes))


def _read_ground_truth(
    sequence: FrameSequence, line: SplitLine, name: str, size: tuple[int, int]
) -> np.ndarray:
    """Returns a sample's depth map (H, W) float32 in m, after checking that it is plausible."""
    depth = sequence.read_ground_truth(name, line.side, size)
    for fault in check_depth(depth):
        raise KittiDataError(
            f"{name}, the ground truth of {line}, {fault}; replace it, or correct the calibration"
        )
    return depth
