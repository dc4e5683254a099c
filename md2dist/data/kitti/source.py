"""KITTI as a source of frames: the drives of KITTI raw and the sequences of KITTI odometry."""

from functools import cached_property

import numpy as np

from md2dist.data.intrinsics import Camera
from md2dist.data.kitti.calibration import (
    Calibration,
    read_annotated,
    read_calibration,
    read_scan,
)
from md2dist.data.kitti.layout import (
    CAMERAS,
    OTHER_SIDE,
    Side,
    calibration_files,
    camera_folder,
    find_annotated,
    find_image,
    find_scan,
    is_odometry,
    list_annotated,
    list_frames,
    list_scans,
    list_sequences,
)
from md2dist.data.kitti.roots import describe_roots, explain_missing
from md2dist.data.kitti.tree import SourceTree
from md2dist.data.kitti.velodyne import project_velodyne
from md2dist.errors import ConfigError, KittiDataError

# Frames that were resized before are at most this share of the calibrated size, or larger by it,
# and squeezed in one direction by at most this factor: 512x256 is by 1.7.
_RESIZED = 0.9
_LARGEST_SQUEEZE = 2.0
_GROUND_TRUTHS = ("none", "velodyne", "annotated")


class KittiSource:
    """The sequences in a tree of KITTI files.

    Args:
        files: the tree.
    """

    def __init__(self, files: SourceTree):
        self.files = files

    def list_sequences(self) -> list[str]:
        """Lists the drives and sequences that have images, sorted by name.

        Raises:
            KittiDataError: if the tree could not be searched completely.
        """
        return list_sequences(self.files)

    def open_sequence(self, name: str, ground_truth: str) -> "KittiSequence":
        """Opens a drive or sequence, which need not exist.

        Raises:
            ConfigError: if KITTI has no such ground truth.
        """
        if ground_truth not in _GROUND_TRUTHS:
            raise ConfigError(
                f"--ground-truth {ground_truth} is that of --frames; of --kitti-root expected one "
                f"of {', '.join(_GROUND_TRUTHS)}"
            )
        return KittiSequence(self.files, name, ground_truth)

    def describe(self) -> str:
        """Describes the contents of the roots, for messages."""
        return describe_roots(self.files)

    def explain_missing(self, name: str, ground_truth: str) -> str:
        """Returns where a missing part of a drive may be found, see `roots.explain_missing`."""
        return explain_missing(
            self.files,
            name,
            use_scans=ground_truth == "velodyne",
            use_annotated=ground_truth == "annotated",
        )


class KittiSequence:
    """A drive of KITTI raw or a sequence of KITTI odometry.

    Methods raise `KittiDataError` and `KittiAccessError` as the tree does.

    Args:
        tree: the KITTI tree.
        drive: name of the drive or sequence.
        ground_truth: kind of the ground truth.
    """

    def __init__(self, tree: SourceTree, drive: str, ground_truth: str):
        self._tree, self._drive, self._kind = tree, drive, ground_truth

    @cached_property
    def _calibration(self) -> Calibration:
        return read_calibration(self._tree, self._drive, use_scans=self._kind == "velodyne")

    def list_frames(self, side: Side) -> set[int]:
        """Lists the frames that have an image of one camera; empty if the camera is missing."""
        return list_frames(self._tree, self._drive, side)

    def list_ground_truth(self, side: Side) -> set[int]:
        """Lists the frames that have a laser scan, or annotated depth of one camera."""
        if self._kind == "velodyne":
            return list_scans(self._tree, self._drive)
        return list_annotated(self._tree, self._drive, side)

    def find_image(self, frame: int, side: Side) -> str:
        """Finds the image of one camera."""
        if frame < 0:
            raise KittiDataError("the first frame is 0")
        return find_image(self._tree, self._drive, frame, side)

    def find_ground_truth(self, frame: int, side: Side) -> str:
        """Finds the laser scan, or the annotated depth of one camera."""
        if self._kind == "velodyne":
            return find_scan(self._tree, self._drive, frame)
        return find_annotated(self._tree, self._drive, frame, side)

    def check_stereo(self, side: Side) -> None:
        """Checks that the folder of the other camera is present, if that of this one is."""
        own, other = (camera_folder(self._drive, some) for some in (side, OTHER_SIDE[side]))
        if self._tree.files(own) and not self._tree.files(other):
            raise KittiDataError(
                f"{other} is missing: the stereo view of {self._drive} cannot be packed; "
                "download it, or pack with --no-stereo"
            )

    def camera_files(self) -> list[str]:
        """Returns the calibration files, which need not exist."""
        return calibration_files(self._drive)

    def read_camera(self, side: Side) -> Camera:
        """Reads the calibration of one camera."""
        number, calibration = CAMERAS[side], self._calibration
        height, width = calibration.sizes[number].tolist()
        name = f"P{number}" if is_odometry(self._drive) else f"P_rect_0{number}"
        return Camera(
            K=calibration.K[number],
            size=(height, width) if height and width else None,
            baseline=calibration.baseline,
            name=name,
            pair=" and ".join(name[:-1] + other for other in "23"),
        )

    def check_size(
        self, frame: int, side: Side, size: tuple[int, int], *, has_ground_truth: bool
    ) -> None:
        """Checks that images have the size of their calibration, or were resized as a whole.

        A crop, or the images of another date, keep nearly all of the rows or columns: their
        intrinsics would be wrong.
        """
        calibrated = self.read_camera(side).size or size
        factors = np.array(size) / calibrated
        is_resized = (factors <= _RESIZED).all() or (factors >= 1 / _RESIZED).all()
        is_resized &= factors.max() <= _LARGEST_SQUEEZE * factors.min()
        if not (factors == 1).all() and not (is_resized and not has_ground_truth):
            raise KittiDataError(
                f"the images of {self._drive} {frame} {side} are {size[0]}x{size[1]}, but "
                f"S_rect_0{CAMERAS[side]} of the calibration is {calibrated[0]}x{calibrated[1]}; "
                "extract the original images again, or correct the calibration"
            )

    def read_ground_truth(self, name: str, side: Side, size: tuple[int, int]) -> np.ndarray:
        """Computes the depth map of an image.

        Args:
            name: the file that `find_ground_truth` returned.
            side: the camera.
            size: height and width of the image in pixels.

        Returns:
            Depth (H, W) float32 in m, 0 where unknown: KITTI's annotated depth, or the projected
            scan of the `eigen` protocol.

        Raises:
            KittiDataError: if the file is damaged, or its size differs from that of the image.
        """
        camera = CAMERAS[side]
        if self._kind == "velodyne":
            calibration = self._calibration.with_size(*size)
            return project_velodyne(read_scan(self._tree, name), calibration, camera)
        depth = read_annotated(self._tree, name)
        if depth.shape != size:
            raise KittiDataError(
                f"annotated depth {name} has {depth.shape[0]}x{depth.shape[1]} pixels, expected "
                f"{size[0]}x{size[1]}; download it again"
            )
        return depth
