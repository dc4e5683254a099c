"""Losses of Monodepth2: photometric error, its reduction over the sources, smoothness."""
