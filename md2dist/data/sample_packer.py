"""From the files of one KITTI sample to the members of its section in a shard."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from md2dist.data.frames import decode_frame, encode_frame, resize_frame, scale_intrinsics
from md2dist.data.kitti import CAMERAS, Calibration, load_calibration, load_velodyne
from md2dist.data.shard_format import FORMAT_VERSION, Recipe
from md2dist.data.shard_plan import PlannedSample
from md2dist.data.splits import SplitLine
from md2dist.data.velodyne import encode_sparse_depth, project_velodyne


class SamplePacker:
    """Packs the samples of one shard; an image that several of them show is decoded once.

    Attributes:
        source_digests: sha256 of every file that was read, by its path relative to the root.
    """

    def __init__(self, root: Path, recipe: Recipe, samples: Sequence[PlannedSample]):
        self.root = root
        self.recipe = recipe
        self.source_digests: dict[str, str] = {}
        self._uses_left = Counter(path for sample in samples for path in sample.views.values())
        self._encoded: dict[Path, tuple[bytes, tuple[int, int]]] = {}
        self._load_calibration = cache(self._read_calibration)

    def pack(self, sample: PlannedSample) -> dict[str, str | bytes]:
        """Makes the members of one sample.

        Returns:
            ``__key__``, an encoded image per view, ``json``, and ``velodyne.npz`` on request: the
            depth map of the `eigen` protocol, in native size.

        Raises:
            KittiError: if a file is broken, or the calibration missing.
        """
        line, suffix = sample.line, self.recipe.image_format
        calibration = self._load_calibration(self.root / line.drive.partition("/")[0])
        images = {name: self._encode(path) for name, path in sample.views.items()}
        members: dict[str, str | bytes] = {"__key__": line.key}
        members |= {f"{name}.{suffix}": content for name, (content, _) in images.items()}
        info = self._describe(line, calibration, native_size=images["0"][1])
        members["json"] = json.dumps(info, separators=(",", ":")).encode()
        if sample.scan is not None:
            depth = project_velodyne(load_velodyne(sample.scan), calibration, CAMERAS[line.side])
            self._note(sample.scan)
            members["velodyne.npz"] = encode_sparse_depth(depth)
        return members

    def _describe(
        self, line: SplitLine, calibration: Calibration, native_size: tuple[int, int]
    ) -> dict[str, object]:
        date, _, drive = line.drive.partition("/")
        camera = CAMERAS[line.side]
        packed_size = self.recipe.height, self.recipe.width
        # Scaled from the calibrated size, which also serves frames that somebody has resized.
        calibrated_size = calibration.sizes[camera]
        return {
            "format_version": FORMAT_VERSION,
            "key": line.key,
            "date": date,
            "drive": drive,
            "frame": line.frame,
            "side": line.side,
            "width": self.recipe.width,
            "height": self.recipe.height,
            "native_width": native_size[1],
            "native_height": native_size[0],
            "K": scale_intrinsics(calibration.K[camera], calibrated_size, packed_size).tolist(),
            "baseline": calibration.baseline,
        }

    def _encode(self, path: Path) -> tuple[bytes, tuple[int, int]]:
        """Encoded image and native (height, width); forgotten with its last use in the shard."""
        if path not in self._encoded:
            frame = decode_frame(path)
            self._note(path)
            resized = resize_frame(frame, self.recipe.height, self.recipe.width)
            content = encode_frame(resized, self.recipe.image_format, self.recipe.image_quality)
            self._encoded[path] = content, (frame.height, frame.width)
        self._uses_left[path] -= 1
        return self._encoded[path] if self._uses_left[path] else self._encoded.pop(path)

    def _read_calibration(self, date_folder: Path) -> Calibration:
        calibration = load_calibration(date_folder)
        for name in ("calib_cam_to_cam.txt", "calib_velo_to_cam.txt"):
            self._note(date_folder / name)
        return calibration

    def _note(self, path: Path) -> None:
        name = path.relative_to(self.root).as_posix()
        with path.open("rb") as file:
            self.source_digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
