"""Sample packer: the members of one sample, from stored images and KITTI's files."""

import json
import math
import zlib
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path

import numpy as np

from md2dist.data.images import resize_intrinsics
from md2dist.data.inspection.sample_check import check_sample
from md2dist.data.kitti.calibration import Calibration, read_calibration
from md2dist.data.kitti.layout import CAMERAS, calibration_files
from md2dist.data.kitti.splits import SplitLine
from md2dist.data.kitti.tree import SourceTree
from md2dist.data.packing.ground_truth import read_ground_truth
from md2dist.data.packing.image_store import StoredImage
from md2dist.data.packing.plan import PlannedSample
from md2dist.data.packing.source_files import Fingerprint, read_source
from md2dist.data.shards.manifest import FORMAT_VERSION
from md2dist.data.shards.recipe import Recipe
from md2dist.data.shards.sparse_depth import encode_sparse_depth
from md2dist.errors import KittiDataError, ShardError

# Frames that were resized before are at most this share of the calibrated size, or larger by it,
# and squeezed in one direction by at most this factor: 512x256 is by 1.7.
_RESIZED = 0.9
_LARGEST_SQUEEZE = 2.0


class SamplePacker:
    """Packs the samples of one shard.

    Args:
        tree: the KITTI tree.
        recipe: the recipe of the shards.
        folder: folder of the stored images.
        images: the stored images, by their names in the tree.
        broken: reasons for images that are not stored.

    Attributes:
        sources: fingerprints of all files of the packed samples, by their names in the tree.
    """

    def __init__(
        self,
        tree: SourceTree,
        recipe: Recipe,
        folder: Path,
        images: Mapping[str, StoredImage],
        broken: Mapping[str, str],
    ):
        self.tree = tree
        self.recipe = recipe
        self.folder = folder
        self.images = images
        self.broken = broken
        self.sources: dict[str, Fingerprint] = {}
        use_scans = recipe.ground_truth == "velodyne"
        self._read_calibration = cache(partial(read_calibration, use_scans=use_scans))

    def pack(self, sample: PlannedSample) -> dict[str, str | bytes]:
        """Returns the members of one sample.

        Returns:
            ``__key__``, an encoded image per view, ``json``, and, if requested, the ground truth: a
            depth map at native size.

        Raises:
            ShardError: if a stored image is damaged.
            KittiDataError: if a file is damaged, the calibration is missing, the images differ in
                size from each other or from the calibration, or verification would find a fault.
        """
        line, suffix = sample.line, self.recipe.image_format
        views = {name: self._find_image(file) for name, file in sample.views.items()}
        native_size = _common_native_size(sample, views)
        members = {f"{name}.{suffix}": self._read_image(view) for name, view in views.items()}
        # Fingerprints first: a file that is replaced meanwhile then counts as changed.
        sources = {file: views[name].source for name, file in sample.views.items()}
        for file in (*calibration_files(line.drive), sample.ground_truth):
            if file and file not in self.sources:
                sources[file] = read_source(self.tree, file)[1]
        calibration = self._read_calibration(self.tree, line.drive).with_size(*native_size)
        _check_calibrated_size(
            line, native_size, calibration, may_be_resized=sample.ground_truth is None
        )
        info = self._describe(line, calibration, native_size)
        members["json"] = json.dumps(info, separators=(",", ":")).encode()
        name, source = self.recipe.ground_truth_name, sample.ground_truth
        if name and source:
            depth = read_ground_truth(
                self.tree, source, line, self.recipe.ground_truth, calibration
            )
            members[name] = encode_sparse_depth(depth)
        if faults := check_sample(line.key, members, self.recipe, decode=False):
            raise KittiDataError(
                f"{line} cannot be packed: {'; '.join(faults)}; correct the calibration of "
                f"{line.drive}"
            )
        self.sources |= sources
        return {"__key__": line.key, **members}

    def _describe(
        self, line: SplitLine, calibration: Calibration, native_size: tuple[int, int]
    ) -> dict[str, object]:
        date, _, drive = line.drive.rpartition("/")
        camera = CAMERAS[line.side]
        height, width = self.recipe.height or native_size[0], self.recipe.width or native_size[1]
        # Scaled from the calibrated size, so frames that were resized before are right, too.
        calibrated_size = calibration.sizes[camera]
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
            "K": resize_intrinsics(
                calibration.K[camera], calibrated_size, (height, width)
            ).tolist(),
            "baseline": self._find_baseline(calibration),
        }

    def _find_baseline(self, calibration: Calibration) -> float:
        # A single camera may come with zeros for the other one.
        is_known = self.recipe.use_stereo or math.isfinite(calibration.baseline)
        return calibration.baseline if is_known else 0.0

    def _find_image(self, name: str) -> StoredImage:
        if name in self.broken:
            raise KittiDataError(self.broken[name])
        return self.images[name]

    def _read_image(self, image: StoredImage) -> bytes:
        path = self.folder / image.file
        with path.open("rb") as stream:
            stream.seek(image.start)
            encoded = stream.read(image.stop - image.start)
        if zlib.crc32(encoded) != image.crc32:
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


def _check_calibrated_size(
    line: SplitLine, size: tuple[int, int], calibration: Calibration, *, may_be_resized: bool
) -> None:
    """Checks that images have the size of their calibration, or were resized as a whole.

    A crop, or the images of another date, keep nearly all of the rows or columns: their intrinsics
    would be wrong.
    """
    camera = CAMERAS[line.side]
    calibrated = calibration.sizes[camera]
    factors = np.array(size) / calibrated
    is_resized = (factors <= _RESIZED).all() or (factors >= 1 / _RESIZED).all()
    is_resized &= factors.max() <= _LARGEST_SQUEEZE * factors.min()
    if not (factors == 1).all() and not (may_be_resized and is_resized):
        raise KittiDataError(
            f"the images of {line} are {size[0]}x{size[1]}, but S_rect_0{camera} of the "
            f"calibration is {calibrated[0]}x{calibrated[1]}; extract the original images again, "
            "or correct the calibration"
        )
