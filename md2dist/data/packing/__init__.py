"""Packing of KITTI into shards."""
