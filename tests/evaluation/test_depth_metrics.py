import math

import numpy as np
import pytest
import torch
from helpers.sample_list import random_ground_truth
from reference import evaluation as reference

from md2dist.data.kitti.calibration import load_calibration
from md2dist.data.kitti.velodyne import project_velodyne
from md2dist.errors import EvaluationError, ShapeError
from md2dist.evaluation.depth_metrics import (
    DepthMetrics,
    evaluate_image,
    match_depths,
    median_ratio,
    read_scaling,
    valid_pixels,
)

PERFECT = DepthMetrics(0, 0, 0, 0, 1, 1, 1)


@pytest.fixture
def truth():
    return random_ground_truth(np.random.default_rng(0))


@pytest.fixture
def dense_truth():
    return np.random.default_rng(1).uniform(2, 40, (20, 50))


@pytest.mark.parametrize(("name", "scaling"), [("mono", "median"), ("stereo", 5.4)])
def test_real_frames_have_the_metrics_of_the_reference(shared, kitti_raw, name, scaling):
    golden = np.load(shared / "golden" / "eval_depth_drive0005.npz")
    date = kitti_raw / "2011_09_26"
    calibration = load_calibration(date)
    for index, frame in enumerate(golden["frames"]):
        scan = date / f"2011_09_26_drive_0005_sync/velodyne_points/data/{frame:010d}.bin"
        points = np.fromfile(scan, np.float32).reshape(-1, 4)
        truth = project_velodyne(points, calibration)
        metrics = evaluate_image(golden["pred_disp"][index], truth, "eigen", scaling)
        np.testing.assert_allclose(metrics, golden[name][index], rtol=5e-7)


@pytest.mark.parametrize("protocol", ["eigen", "eigen_benchmark"])
@pytest.mark.parametrize("scaling", ["median", 5.4])
@pytest.mark.parametrize("size", [(6, 10), (20, 50), (31, 64)])
def test_metrics_equal_those_of_the_slow_twin(truth, protocol, scaling, size):
    disparity = np.random.default_rng(2).uniform(0.01, 2, size)
    expected = reference.evaluate_image(disparity, truth, protocol, scaling)
    metrics = evaluate_image(disparity, truth, protocol, scaling)
    ratio = median_ratio(*match_depths(disparity, truth, protocol))
    np.testing.assert_allclose([*metrics, ratio], expected, rtol=1e-12)


@pytest.mark.parametrize("scaling", ["median", 1.0])
def test_a_perfect_prediction_has_no_error(dense_truth, scaling):
    metrics = evaluate_image(1 / dense_truth, dense_truth, "eigen", scaling)
    np.testing.assert_allclose(metrics, PERFECT, atol=1e-14)


def test_depths_thirty_percent_too_far_have_the_errors_of_the_closed_form(dense_truth):
    metrics = evaluate_image(1 / dense_truth, dense_truth, "eigen_benchmark", 1.3)
    np.testing.assert_allclose(
        metrics,
        [
            0.3,
            0.09 * dense_truth.mean(),
            0.3 * math.sqrt((dense_truth**2).mean()),
            math.log(1.3),
            0,  # 1.3 > 1.25
            1,
            1,
        ],
        rtol=1e-12,
    )


def test_median_scaling_does_not_see_the_scale_of_the_prediction(truth):
    disparity = np.random.default_rng(3).uniform(0.1, 1, (6, 10))
    np.testing.assert_allclose(
        evaluate_image(7.5 * disparity, truth), evaluate_image(disparity, truth), rtol=1e-12
    )


def test_the_median_of_an_even_number_is_the_mean_of_the_middle_two():
    truth = np.zeros((4, 4))
    truth[0, 0], truth[3, 3] = 10, 20
    assert median_ratio(*match_depths(np.ones((2, 2)), truth, "eigen_benchmark")) == 15


@pytest.mark.parametrize(
    ("size", "rows", "columns"),
    [((375, 1242), (153, 371), (44, 1197)), ((376, 1241), (153, 372), (44, 1196))],
)
def test_the_crop_of_a_kitti_image_has_the_published_bounds(size, rows, columns):
    counted_rows, counted_columns = np.nonzero(valid_pixels(np.ones(size)))
    assert (counted_rows.min(), counted_rows.max() + 1) == rows
    assert (counted_columns.min(), counted_columns.max() + 1) == columns


@pytest.mark.parametrize(("depth", "is_counted"), [(1e-3, False), (80, False), (79.9, True)])
def test_eigen_leaves_out_the_limits_of_its_range(depth, is_counted):
    truth = np.full((20, 50), 10.0)
    truth[10, 25] = depth
    assert valid_pixels(truth)[10, 25] == is_counted


def test_the_annotated_depth_counts_beyond_the_crop_and_beyond_80_metres():
    truth = np.zeros((20, 50))
    truth[0, 0] = 90
    assert valid_pixels(truth, "eigen_benchmark").sum() == 1


def test_predictions_are_clamped_to_80_metres(truth):
    far, limit = np.full((2, 2), 1 / 200), np.full((2, 2), 1 / 80)
    np.testing.assert_allclose(
        evaluate_image(far, truth, scaling=1.0), evaluate_image(limit, truth, scaling=1.0)
    )


def test_arrays_and_tensors_of_any_type_give_the_same_metrics(truth):
    disparity = torch.rand(6, 10).bfloat16() + 0.1
    as_array = disparity.float().cpu().numpy()
    as_array.flags.writeable = False
    expected = evaluate_image(as_array, truth)
    assert evaluate_image(disparity.requires_grad_(), torch.tensor(truth)) == expected


def test_inputs_stay_as_they_are(truth):
    disparity = np.random.default_rng(4).uniform(0.1, 1, (6, 10))
    before = disparity.copy(), truth.copy()
    evaluate_image(disparity, truth)
    np.testing.assert_array_equal(disparity, before[0])
    np.testing.assert_array_equal(truth, before[1])


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_a_prediction_that_is_not_positive_and_finite_is_refused(truth, bad):
    with pytest.raises(EvaluationError, match="positive and finite"):
        evaluate_image(np.full((6, 10), bad), truth)


def test_ground_truth_without_any_valid_pixel_is_refused():
    with pytest.raises(EvaluationError, match="no pixel of the ground truth"):
        evaluate_image(np.ones((6, 10)), np.zeros((20, 50)))


def test_unknown_protocols_and_scalings_are_refused(truth):
    with pytest.raises(EvaluationError, match="expected one of eigen, eigen_benchmark"):
        evaluate_image(np.ones((6, 10)), truth, "garg")  # type: ignore[arg-type]
    with pytest.raises(EvaluationError, match="expected median or a positive number"):
        evaluate_image(np.ones((6, 10)), truth, scaling="mean")  # type: ignore[arg-type]
    with pytest.raises(EvaluationError, match="expected median or a positive number"):
        evaluate_image(np.ones((6, 10)), truth, scaling=-1.0)


def test_a_batch_of_maps_is_refused(truth):
    with pytest.raises(ShapeError, match=r"scaled_disparity has shape \(1, 6, 10\)"):
        evaluate_image(np.ones((1, 6, 10)), truth)


def test_a_command_reads_words_and_positive_numbers():
    words = {"auto": 5.4, "median": "median"}
    assert [read_scaling(text, words) for text in ("auto", "median", "2.5")] == [5.4, "median", 2.5]
    for text in ("0", "-1", "nan", "inf", "much"):
        with pytest.raises(EvaluationError, match="expected auto, median or a positive number"):
            read_scaling(text, words)
