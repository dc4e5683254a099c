"""The KITTI dataset as published: file trees, archives, splits, calibration and scans."""

from md2dist.data.kitti.calibration import load_calibration
from md2dist.data.kitti.named_splits import load_split
from md2dist.data.kitti.roots import open_kitti
from md2dist.data.kitti.velodyne import project_velodyne

__all__ = ["load_calibration", "load_split", "open_kitti", "project_velodyne"]
