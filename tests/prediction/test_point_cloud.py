"""Point clouds agree with the back-projection in closed form, read by a small reader of its own."""

import math

import numpy as np
import pytest
from helpers.image_bytes import random_image
from test_finite_results import make_model

from md2dist.data.image_reader import read_image
from md2dist.errors import ConfigError, ImageError
from md2dist.prediction.aspect_crop import Box
from md2dist.prediction.camera import Camera, CameraSource, read_camera_source
from md2dist.prediction.image_files import refuse_foreign_results
from md2dist.prediction.point_cloud import default_bound, write_point_cloud
from md2dist.prediction.predictor import predict_files
from md2dist.prediction.result_files import PredictionOptions

CAMERA = Camera(40.0, 50.0, 3.25, 2.5)


def read_ply(path):
    """Reads any binary little-endian PLY of vertices; returns columns by name, and the comments."""
    header, _, body = path.read_bytes().partition(b"end_header\n")
    lines = [line.split() for line in header.decode("ascii").splitlines()]
    assert lines[:2] == [["ply"], ["format", "binary_little_endian", "1.0"]]
    (count,) = [int(line[2]) for line in lines if line[:2] == ["element", "vertex"]]
    types = {"float": "<f4", "uchar": "u1"}
    fields = [(line[2], types[line[1]]) for line in lines if line[0] == "property"]
    assert [name for name, _ in fields] == ["x", "y", "z", "red", "green", "blue"]
    assert len(body) == count * np.dtype(fields).itemsize == count * 15
    comments = [" ".join(line[1:]) for line in lines if line[0] == "comment"]
    return np.frombuffer(body, fields), comments


def back_project(depth, camera, bound):
    """Points and pixels (row, column) of a depth map, one after the other, in float64."""
    points, pixels = [], []
    for row in range(depth.shape[0]):
        for column in range(depth.shape[1]):
            z = float(depth[row, column])
            if z <= bound:
                x = z * (column - camera.cx) / camera.fx
                points.append((x, z * (row - camera.cy) / camera.fy, z))
                pixels.append((row, column))
    return np.array(points), pixels


def make_scene(height, width):
    generator = np.random.default_rng(0)
    depth = generator.uniform(1, 100, (height, width)).astype(np.float32)
    return depth, generator.integers(0, 256, (height, width, 3), dtype=np.uint8)


def assert_points(path, depth, colours, camera, bound):
    vertices, comments = read_ply(path)
    points, pixels = back_project(depth, camera, bound)
    assert 0 < len(points) == len(vertices)
    found = np.stack([vertices[name] for name in "xyz"], 1)
    np.testing.assert_allclose(found, points, rtol=1e-6, atol=1e-6)
    expected = np.array([colours[pixel] for pixel in pixels])
    found = np.stack([vertices[name] for name in ("red", "green", "blue")], 1)
    np.testing.assert_array_equal(found, expected)
    return comments


@pytest.mark.parametrize("block", [1, 40, 1 << 18])
def test_points_are_the_pixels_back_projected_up_to_the_bound(tmp_path, monkeypatch, block):
    monkeypatch.setattr("md2dist.prediction.point_cloud._BLOCK", block)
    depth, colours = make_scene(9, 14)
    depth[3, 4] = 80
    path = tmp_path / "a_points.ply"
    write_point_cloud(path, depth, colours, CAMERA, max_depth=80, comments=("unit metres",))
    comments = assert_points(path, depth, colours, CAMERA, 80)
    assert comments[0] == "written by md2dist"
    assert "fx 40 fy 50 cx 3.25 cy 2.5, pixels of 14x9" in comments
    assert "points up to z = 80" in comments
    assert "unit metres" in comments


def test_a_cloud_without_near_points_is_an_empty_file_of_the_format(tmp_path):
    depth, colours = make_scene(4, 5)
    write_point_cloud(tmp_path / "a.ply", depth, colours, CAMERA, max_depth=0.5)
    assert len(read_ply(tmp_path / "a.ply")[0]) == 0


def test_relative_depth_is_bounded_by_five_medians():
    depth = np.array([[1.0, 2.0, 90.0]])
    assert default_bound(depth, is_metric=True) == 80
    assert default_bound(depth, is_metric=False) == 10


def test_the_camera_follows_the_crop():
    size, box = (200, 100), Box(20, 30, 180, 78)
    whole = Box(0, 0, *size)
    given = CameraSource(Camera(150, 151, 99, 48))
    assert given.camera_of(size, whole) == (150, 151, 99, 48)
    assert given.camera_of(size, box) == (150, 151, 79, 18)
    view = CameraSource(None, 90.0)
    assert view.camera_of(size, whole) == pytest.approx((100, 100, 100, 50))
    assert view.camera_of(size, box) == pytest.approx((100, 100, 80, 20))
    assert CameraSource().camera_of(size, whole) == pytest.approx((116, 192, 100, 50))
    assert CameraSource().camera_of(size, box) == pytest.approx((0.58 * 160, 1.92 * 48, 80, 24))


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "a,1,1,1", "0,1,1,1", "1,1,nan,1"])
def test_intrinsics_are_four_numbers(text):
    with pytest.raises(ConfigError, match="expected fx,fy,cx,cy in pixels"):
        read_camera_source(text, None)
    assert read_camera_source("721.5,720,609.6,172.9", None).intrinsics == (
        721.5,
        720,
        609.6,
        172.9,
    )


@pytest.mark.parametrize("degrees", [0.0, 180.0, -1.0, math.nan])
def test_a_field_of_view_is_an_angle_below_a_half_turn(degrees):
    with pytest.raises(ConfigError, match="expected degrees > 0 and < 180"):
        read_camera_source(None, degrees)


@pytest.mark.parametrize(
    ("is_metric", "source", "comment"),
    [
        (True, CameraSource(Camera(90, 90, 60, 30)), "camera given by --intrinsics"),
        (True, CameraSource(None, 80.0), "camera given by --fov 80"),
        (False, CameraSource(), "camera KITTI's (0.58 widths, 1.92 heights), assumed"),
    ],
)
def test_predicted_points_have_the_depth_and_colours_of_the_crop(
    tmp_path, is_metric, source, comment
):
    path, model = tmp_path / "a.png", make_model()  # 96x64
    random_image().resize((120, 50)).save(path)
    options = PredictionOptions(
        is_metric=is_metric, with_disparity=True, points_of=source, crop_to_aspect=True
    )
    output = tmp_path / "out"
    list(predict_files(model, [path], output, factor=5.4, depth_format="npy", options=options))
    box = Box(22, 0, 97, 50)
    crop = read_image(path).crop(box)
    depth = np.load(output / "a_depth.npy")
    disparity = np.load(output / "a_disparity.npy")
    np.testing.assert_array_equal(disparity, model.predict_image(crop))
    np.testing.assert_allclose(depth * disparity, 5.4, rtol=1e-6)
    camera = source.camera_of((120, 50), box)
    bound = 80 if is_metric else 5 * float(np.median(depth))
    points = output / "a_points.ply"
    comments = assert_points(points, depth, np.array(crop), camera, bound)
    assert comment in comments
    assert f"unit {'metres' if is_metric else 'none, depth is relative'}" in comments
    others = ["_disparity.npy", "_points.ply"]
    refuse_foreign_results([path], output, "npy", others)
    points.write_bytes(points.read_bytes().replace(b"written by md2dist", b"of another program"))
    with pytest.raises(ImageError, match=r"a_points\.ply exists, .* pass --overwrite"):
        refuse_foreign_results([path], output, "npy", others)
