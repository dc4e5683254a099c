"""Distributed training of Monodepth2: self-supervised depth from video and stereo on KITTI."""
