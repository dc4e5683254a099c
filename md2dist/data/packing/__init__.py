"""From KITTI to shards."""
