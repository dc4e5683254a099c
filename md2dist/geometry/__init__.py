"""Camera geometry as pure functions: disparity, motion, projection and warping."""
