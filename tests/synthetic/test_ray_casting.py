"""The synthetic world's depth, poses, images and scans fit each other exactly."""

import numpy as np
import pytest
from reference.synthetic import first_hit, warp

from md2dist.synthetic.boxes import Appearance, Box, cut_faces
from md2dist.synthetic.drive import BASELINE, VELO_TO_CAM, Drive
from md2dist.synthetic.ray_casting import cast_rays, place_camera, place_scanner
from md2dist.synthetic.scenery import surfaces_near

DRIVE = Drive(seed=5, number=1, height=96, width=320)


def _compare_with_twin(sensor, num_rays, rng):
    rectangles = surfaces_near(DRIVE.street, sensor.origin[0])
    hits = cast_rays(sensor, rectangles)
    for _ in range(num_rays):
        row, column = rng.integers(len(sensor.rows)), rng.integers(len(sensor.columns))
        ray = sensor.rows[row] + sensor.columns[column]
        distance, number = first_hit(sensor.origin, ray, rectangles)
        assert hits.inverse_depth[row, column] == pytest.approx(1 / distance, rel=1e-9, abs=1e-12)
        assert hits.surface[row, column] == max(number, 0)


def test_a_camera_ray_meets_what_a_search_through_all_rectangles_finds():
    for frame in (3, 4000):
        camera = place_camera(DRIVE.camera_pose(frame), DRIVE.intrinsics, 96, 320)
        _compare_with_twin(camera, 15, np.random.default_rng(frame))


def test_a_scanner_ray_meets_what_a_search_through_all_rectangles_finds():
    azimuths, elevations = np.radians(np.linspace(89, -89, 90)), np.radians(np.linspace(2, -25, 16))
    pose = DRIVE.camera_pose(7, 0) @ VELO_TO_CAM
    _compare_with_twin(place_scanner(pose, azimuths, elevations), 30, np.random.default_rng(0))


def test_the_faces_of_a_box_enclose_it_and_face_outwards():
    appearance = Appearance("planks", "planks", "planks", np.zeros((2, 3)))
    faces = cut_faces([Box((3.0, -2.0, 0.5), 0.7, (4.0, 2.0, 1.0), appearance)])
    normals = np.cross(faces.edges[:, 0], faces.edges[:, 1])
    middles = faces.origin + np.einsum("nk,nkj->nj", faces.size, faces.edges) / 2
    outwards = middles - [3.0, -2.0, 1.0]
    half = [2.0, 2.0, 1.0, 1.0, 0.5, 0.5]  # front, back, left, right, top, bottom
    np.testing.assert_allclose(outwards, normals * np.array(half)[:, None], atol=1e-12)
    np.testing.assert_allclose(normals[0], [np.cos(0.7), np.sin(0.7), 0], atol=1e-12)
    np.testing.assert_allclose(faces.size.prod(1), [2, 2, 4, 4, 8, 8])


def test_depth_is_measured_along_the_optical_axis():
    """Ground pixels, back-projected with their depth and the pose, have height zero."""
    depth, pose = DRIVE.depth(12), DRIVE.camera_pose(12)
    v, u = np.mgrid[:96, :320]
    rays = np.linalg.inv(DRIVE.intrinsics) @ np.stack([u, v, 0 * u + 1]).reshape(3, -1)
    seen = np.isfinite(depth.ravel())
    heights = (pose[:3, :3] @ (rays[:, seen] * depth.ravel()[seen]) + pose[:3, 3:])[2]
    assert heights.min() > -1e-9
    assert np.mean(np.abs(heights) < 1e-9) > 0.3


def test_the_right_camera_is_one_baseline_to_the_right():
    right_in_left = np.linalg.inv(DRIVE.camera_pose(9, 2)) @ DRIVE.camera_pose(9, 3)
    expected = np.eye(4)
    expected[0, 3] = BASELINE
    np.testing.assert_allclose(right_in_left, expected, atol=1e-12)


def test_the_right_image_is_the_left_one_shifted_by_the_disparity():
    left, right = DRIVE.depth(15, 2), DRIVE.depth(15, 3)
    row = 70
    columns = np.arange(320)
    moved = columns - DRIVE.intrinsics[0, 0] * 0.54 / left[row]
    inside = moved >= 0
    inverse = np.interp(moved[inside], columns, 1 / right[row])
    agrees = np.abs(inverse * left[row, inside] - 1) < 1e-3
    assert agrees.mean() > 0.8  # the rest is hidden from the right camera


@pytest.mark.parametrize("source", [(20, 3), (21, 2), (19, 2)], ids=["stereo", "next", "previous"])
def test_another_view_warped_by_the_true_geometry_equals_the_target(source):
    view = warp(Drive(seed=1, number=1, height=192, width=640), (20, 2), source)
    visible = np.abs(view.source_depth / view.true_depth - 1) < 0.01
    error = np.abs(view.sampled - view.target).mean(1)
    assert visible.mean() > 0.85
    assert error[visible].mean() < 0.015
    assert error[~visible].mean() > 0.05  # occluded pixels do not match, so the test can fail


def test_scanned_points_are_on_the_surfaces_that_the_camera_sees():
    """Projected by the calibration, points have the depth of their pixel, or are hidden by it."""
    drive = Drive(seed=5, number=1)
    points = drive.scan(8).astype(np.float64)
    in_camera = VELO_TO_CAM[:3, :3] @ points[:, :3].T + VELO_TO_CAM[:3, 3:]
    in_camera[0] += 0.06  # camera 2 is to the left of the reference
    pixels = drive.intrinsics @ in_camera
    u, v = np.round(pixels[:2] / pixels[2]).astype(int)
    seen = (u >= 0) & (u < 1242) & (v >= 0) & (v < 375) & (in_camera[2] > 0)
    ratio = in_camera[2, seen] / drive.depth(8)[v[seen], u[seen]]
    assert seen.sum() > 8000
    assert np.mean(np.abs(ratio - 1) < 0.02) > 0.9
    assert np.mean(ratio < 0.9) < 0.01  # nothing floats in front of the surfaces


def test_depth_is_not_explained_by_the_image_row():
    depths = np.stack([Drive(3, number, 48, 160).depth(20) for number in range(1, 7)])
    scaled = 1 / np.clip(depths, 1, 80)
    of_row = scaled.mean((0, 2), keepdims=True)
    unexplained = np.abs(scaled - of_row).mean() / scaled.mean()
    assert unexplained > 0.3


def test_a_street_has_no_end_and_no_gaps_between_its_blocks():
    for frame in (0, 500, 5000):
        depth = DRIVE.depth(frame)
        assert depth.min() > 1
        assert np.median(depth[40:60]) < 60


def test_the_image_size_changes_nothing_but_the_sampling():
    """Where pixel centres coincide, a small image has the depth of a large one."""
    small, large = Drive(2, 1, 48, 160).depth(6), Drive(2, 1, 96, 320).depth(6)
    np.testing.assert_allclose(small, large[::2, ::2], rtol=1e-9)
