import numpy as np
import pytest
from helpers.kitti_tree import BASELINE, CX, CY, DATE, DRIVE, FX, write_calibration
from reference import velodyne as reference

from md2dist.data.kitti.calibration import load_calibration, read_scan
from md2dist.data.kitti.layout import find_scan
from md2dist.data.kitti.tree import SourceTree
from md2dist.data.kitti.velodyne import project_velodyne


@pytest.fixture(scope="module")
def calibration(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibration")
    write_calibration(folder)
    return load_calibration(folder)


@pytest.fixture(scope="module")
def golden(shared):
    return np.load(shared / "golden" / "eval_depth_drive0005.npz")


def point_at(column, row, depth):
    """The point of the small tree's laser that camera 2 sees at a 0-based column and row."""
    return [depth, -(column + 1 - CX) * depth / FX, -(row + 1 - CY) * depth / FX, 0]


def real_scan(kitti_raw, frame):
    tree = SourceTree(kitti_raw)
    return read_scan(tree, find_scan(tree, DRIVE, frame)), load_calibration(kitti_raw / DATE)


def test_the_projection_agrees_with_the_golden_ground_truth(golden, kitti_raw):
    for i, frame in enumerate(golden["frames"]):
        depth = project_velodyne(*real_scan(kitti_raw, frame))
        assert np.count_nonzero(depth) == golden["gt_count"][i]
        assert depth.sum(dtype=np.float64) == pytest.approx(golden["gt_sum"][i], rel=1e-5)
        np.testing.assert_array_equal(depth[200], golden["gt_rows"][i])


@pytest.mark.slow
def test_only_the_rivalry_across_rows_parts_us_from_the_golden_sum(golden, kitti_raw):
    for i, frame in enumerate(golden["frames"]):
        points, calibration = real_scan(kitti_raw, frame)
        published = reference.project_velodyne(points, calibration, as_published=True)
        assert published.sum() == pytest.approx(golden["gt_sum"][i], rel=1e-12)
        depth = project_velodyne(points, calibration)
        np.testing.assert_array_equal(depth[:, 1:-1], published[:, 1:-1].astype(np.float32))


@pytest.mark.parametrize("camera", [2, 3])
@pytest.mark.parametrize("use_velodyne_x", [True, False])
def test_the_projection_agrees_with_the_slow_twin(calibration, camera, use_velodyne_x):
    points = np.random.default_rng(1).uniform((-5, -10, -3, 0), (30, 10, 3, 1), (5000, 4))
    depth = project_velodyne(points, calibration, camera, use_velodyne_x)
    twin = reference.project_velodyne(points, calibration, camera, use_velodyne_x)
    np.testing.assert_array_equal(depth, twin.astype(np.float32))
    assert depth.dtype == np.float32
    assert np.count_nonzero(depth) > 1000


def test_the_order_of_the_points_does_not_matter(calibration):
    rng = np.random.default_rng(2)
    points = rng.uniform((1, -10, -3, 0), (30, 10, 3, 1), (5000, 4))
    depth = project_velodyne(points, calibration)
    np.testing.assert_array_equal(project_velodyne(rng.permutation(points), calibration), depth)


def test_the_nearest_point_of_a_pixel_wins(calibration):
    points = np.array([point_at(30, 10, 9.0), point_at(30, 10, 4.0), point_at(30, 10, 7.0)])
    depth = project_velodyne(points, calibration)
    assert depth[10, 30] == 4
    assert np.count_nonzero(depth) == 1


def test_the_right_camera_sees_a_point_further_left(calibration):
    points = np.array([point_at(80, 10, 9.0)])
    depth = project_velodyne(points, calibration, camera=3)
    assert depth[10, 80 - round(FX * BASELINE / 9)] == 9


@pytest.mark.parametrize(("u", "column"), [(30.5, 29), (31.5, 31)])
def test_halves_are_rounded_to_even_before_one_is_taken_off(calibration, u, column):
    points = np.array([[FX, CX - u, 0, 0]])  # at depth FX a pixel is a metre, without rounding
    depth = project_velodyne(points, calibration)
    assert np.flatnonzero(depth.any(axis=0)).tolist() == [column]


def test_points_beside_and_behind_the_laser_are_dropped(calibration):
    points = np.array([[-5, 0, 0, 0], [1, 1000, 0, 0], [0, 0, 0, 0]], np.float32)
    assert not project_velodyne(points, calibration).any()


def test_a_point_behind_the_camera_takes_its_pixel_to_zero(calibration):
    behind_camera = calibration._replace(velo_to_cam=calibration.velo_to_cam.copy())
    behind_camera.velo_to_cam[2, 3] = -5  # the camera stands 5 m before the laser
    hidden, visible = [2, 0, 0, 0], [9, 0, 0, 0]
    for points in ([hidden, visible], [visible, hidden]):
        depth = project_velodyne(np.array(points), behind_camera, use_velodyne_x=False)
        assert not depth.any()
    assert project_velodyne(np.array([visible]), behind_camera, use_velodyne_x=False).sum() == 4
