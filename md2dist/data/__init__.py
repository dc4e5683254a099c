"""KITTI on one side, batches on the other: packing, reading, ordering and augmenting samples."""
