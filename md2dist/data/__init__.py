"""Data pipeline from KITTI files to batches: packing, inspection, shards and loading."""
