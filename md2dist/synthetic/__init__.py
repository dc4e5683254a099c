"""Synthetic drives with exact geometry, written in KITTI raw's layout."""
