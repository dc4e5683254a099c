"""KITTI as it is published: its trees, archives, splits, calibration and scans."""
