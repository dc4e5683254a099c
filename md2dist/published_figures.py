"""Published depth figures of the experiments, on the 697 images of KITTI's eigen test set.

Source: Godard et al., ICCV 2019 (arXiv:1806.01260), Tables 1, 2, 10 and 11.
"""

METRICS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "a1", "a2", "a3")
Figures = tuple[float, float, float, float, float, float, float]  # named by METRICS

# By the names of the files in configs/experiments; None where the paper has no figures.
FIGURES: dict[str, Figures | None] = {
    "mono_640x192": (0.115, 0.903, 4.863, 0.193, 0.877, 0.959, 0.981),
    "mono_416x128": (0.128, 1.087, 5.171, 0.204, 0.855, 0.953, 0.978),
    "mono_1024x320": (0.115, 0.882, 4.701, 0.190, 0.879, 0.961, 0.982),
    "mono_no_pt_640x192": (0.132, 1.044, 5.142, 0.210, 0.845, 0.948, 0.977),
    "mono_baseline": (0.140, 1.610, 5.512, 0.223, 0.852, 0.946, 0.973),
    "mono_v1_multiscale": (0.117, 0.866, 4.864, 0.196, 0.871, 0.957, 0.981),
    "mono_no_auto_mask": (0.120, 1.097, 5.074, 0.197, 0.872, 0.956, 0.979),
    "mono_average": (0.117, 0.878, 4.846, 0.196, 0.870, 0.957, 0.980),
    "mono_predictive_mask": (0.123, 1.177, 5.210, 0.200, 0.869, 0.955, 0.978),
    "mono_stereo_640x192": (0.106, 0.818, 4.750, 0.196, 0.874, 0.957, 0.979),
    "mono_stereo_416x128": (0.118, 0.935, 5.119, 0.210, 0.852, 0.949, 0.976),
    "mono_stereo_1024x320": (0.106, 0.806, 4.630, 0.193, 0.876, 0.958, 0.980),
    "mono_stereo_no_pt_640x192": (0.127, 1.031, 5.266, 0.221, 0.836, 0.943, 0.974),
    "mono_stereo_baseline": None,
    "mono_stereo_v1_multiscale": None,
    "mono_stereo_no_auto_mask": None,
    "mono_stereo_average": None,
    "stereo_640x192": (0.109, 0.873, 4.960, 0.209, 0.864, 0.948, 0.975),
    "stereo_416x128": (0.118, 0.971, 5.231, 0.218, 0.848, 0.943, 0.973),
    "stereo_1024x320": (0.107, 0.849, 4.764, 0.201, 0.874, 0.953, 0.977),
    "stereo_no_pt_640x192": (0.130, 1.144, 5.485, 0.232, 0.831, 0.932, 0.968),
    "stereo_baseline": None,
}
