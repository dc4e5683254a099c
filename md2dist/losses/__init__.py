"""The loss of Monodepth2: photometric error, its reduction over the sources, and smoothness."""
