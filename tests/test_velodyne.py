import io

import numpy as np
import pytest
import reference_velodyne
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from kitti_tree import BASELINE, CX, CY, DATE, DRIVE, FX, write_calibration

from md2dist.data.kitti import load_calibration, load_velodyne, velodyne_path
from md2dist.data.velodyne import decode_sparse_depth, encode_sparse_depth, project_velodyne
from md2dist.errors import ShardError


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
    points = load_velodyne(velodyne_path(kitti_raw, DRIVE, frame))
    return points, load_calibration(kitti_raw / DATE)


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
        published = reference_velodyne.project_velodyne(points, calibration, as_published=True)
        assert published.sum() == pytest.approx(golden["gt_sum"][i], rel=1e-12)
        depth = project_velodyne(points, calibration)
        np.testing.assert_array_equal(depth[:, 1:-1], published[:, 1:-1].astype(np.float32))


@pytest.mark.parametrize("camera", [2, 3])
@pytest.mark.parametrize("use_velodyne_x", [True, False])
def test_the_projection_agrees_with_the_slow_twin(calibration, camera, use_velodyne_x):
    points = np.random.default_rng(1).uniform((-5, -10, -3, 0), (30, 10, 3, 1), (5000, 4))
    depth = project_velodyne(points, calibration, camera, use_velodyne_x)
    twin = reference_velodyne.project_velodyne(points, calibration, camera, use_velodyne_x)
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


maps = arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    elements=st.just(0.0) | st.floats(0.125, 100, width=32),
)


@settings(max_examples=50)
@given(depth=maps)
def test_a_sparse_map_survives_its_packing_bit_for_bit(depth):
    content = encode_sparse_depth(depth)
    restored = decode_sparse_depth(memoryview(content))
    np.testing.assert_array_equal(restored, depth)
    assert restored.dtype == np.float32
    assert encode_sparse_depth(depth) == content


def test_a_packed_map_is_a_plain_npz_without_the_time_of_day(monkeypatch):
    depth = np.zeros((3, 5), np.float32)
    depth[1, 2], depth[2, 4] = 7, 8
    content = encode_sparse_depth(depth)
    monkeypatch.setattr("time.time", lambda: 1e9)
    assert encode_sparse_depth(depth) == content
    with np.load(io.BytesIO(content)) as stored:
        assert stored["index"].tolist() == [7, 14]
        assert stored["depth"].tolist() == [7, 8]
        assert stored["shape"].tolist() == [3, 5]


@pytest.mark.parametrize("damage", [lambda c: b"", lambda c: c[:-30], lambda c: c[:60] + c[70:]])
def test_a_damaged_map_is_an_error_of_the_shard(damage):
    content = encode_sparse_depth(np.eye(50, dtype=np.float32))
    with pytest.raises(ShardError, match="damaged"):
        decode_sparse_depth(damage(content))
