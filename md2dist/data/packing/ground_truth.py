"""Ground-truth depth of a sample: its file in KITTI, and the depth map made from it."""

import numpy as np

from md2dist.data.inspection.sample_check import check_depth
from md2dist.data.kitti.calibration import Calibration, read_annotated, read_scan
from md2dist.data.kitti.layout import CAMERAS, find_annotated, find_scan
from md2dist.data.kitti.splits import SplitLine
from md2dist.data.kitti.tree import SourceTree
from md2dist.data.kitti.velodyne import project_velodyne
from md2dist.data.shards.recipe import GroundTruth
from md2dist.errors import KittiDataError

_FILES = {"velodyne": "laser scan", "annotated": "annotated depth"}


def find_ground_truth(tree: SourceTree, line: SplitLine, kind: GroundTruth) -> str | None:
    """Finds the source file of a sample's ground truth; None for ``none``.

    Raises:
        KittiDataError: if it is missing.
    """
    if kind == "velodyne":
        return find_scan(tree, line.drive, line.frame)
    if kind == "annotated":
        return find_annotated(tree, line.drive, line.frame, line.side)
    return None


def read_ground_truth(
    tree: SourceTree, name: str, line: SplitLine, kind: GroundTruth, calibration: Calibration
) -> np.ndarray:
    """Computes the depth map of a sample's target.

    Args:
        tree: the KITTI tree.
        name: the file that `find_ground_truth` returned.
        line: the sample.
        kind: ``velodyne`` for the map of the `eigen` protocol, ``annotated`` for KITTI's own.
        calibration: of the drive.

    Returns:
        Depth (H, W) float32 in m, 0 where unknown, at the camera's native size.

    Raises:
        KittiDataError: if the file is damaged, its size differs from the camera's images, or
            it has no depth that the camera sees.
    """
    camera = CAMERAS[line.side]
    if kind == "annotated":
        depth, size = read_annotated(tree, name), tuple(calibration.sizes[camera])
        if depth.shape != size:
            raise KittiDataError(
                f"annotated depth {name} has {depth.shape[0]}x{depth.shape[1]} pixels, expected "
                f"{size[0]}x{size[1]}; download it again"
            )
    else:
        depth = project_velodyne(read_scan(tree, name), calibration, camera)
    for fault in check_depth(depth):
        raise KittiDataError(
            f"{_FILES[kind]} {name}, in the image of camera {camera}, {fault}; download it again, "
            "or correct the calibration"
        )
    return depth
