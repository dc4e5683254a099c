import numpy as np
import pytest

from md2dist.prediction.top_view import draw_top_view


def poses_at(x, z):
    poses = np.tile(np.eye(4), (len(x), 1, 1))
    poses[:, 0, 3], poses[:, 2, 3] = x, z
    return poses


def red_places(picture):
    """Rows and columns of the pixels of the prediction, also in the legend."""
    return np.nonzero((picture[..., 0] > 180) & (picture[..., 1] < 90))


def draw(x, z, true=None):
    true = poses_at(np.zeros(2), np.array([0, 1.0])) if true is None else true
    picture = draw_top_view(poses_at(x, z), true, "sequence 09", "prediction")
    assert picture.shape == (1200, 1200, 3)
    assert picture.dtype == np.uint8
    return picture


@pytest.mark.parametrize("radius", [0.01, 300.0])
def test_both_axes_have_the_same_scale(radius):
    angle = np.linspace(0, 2 * np.pi, 200)
    circle = radius * np.cos(angle), radius * np.sin(angle)
    rows, columns = red_places(draw(*circle, poses_at(*circle) * 0.5))
    middle_row, middle_column = np.median(rows), np.median(columns)
    height = np.ptp(
        rows[np.abs(columns - middle_column) < 5]
    )  # through the middle, past the legend
    width = np.ptp(columns[np.abs(rows - middle_row) < 5])
    assert height > 500
    assert height == pytest.approx(width, abs=4)


def test_ahead_is_up_and_right_is_right():
    """From the lower left corner to the upper right one; the legend is at the upper left."""
    rows, columns = red_places(draw(np.array([0, 9.0]), np.array([0, 9.0])))
    assert rows[columns < 200].max() > 1000
    assert rows[columns > 1000].max() < 400


def test_a_prediction_that_stands_still_is_drawn_too():
    assert (draw(np.zeros(3), np.zeros(3)) < 255).any()


def test_a_prediction_much_shorter_than_the_true_path_is_seen_above_the_start():
    straight = np.linspace(0, 1, 50)
    picture = draw(0 * straight, 0.02 * straight, poses_at(0 * straight, 60 * straight))
    rows, _ = red_places(picture)
    is_at_start = rows > 900  # below the legend
    assert is_at_start.sum() > 50
    dark = picture[rows[is_at_start].min() : rows[is_at_start].max() + 20] < 60
    assert dark.all(-1).any()  # the dot remains


def test_a_mark_ends_both_paths():
    """At its end, a path is as wide as the mark; in its middle, as the line."""
    z = np.linspace(0, 60, 50)
    picture = draw(0 * z + 20, z, poses_at(0 * z, z))
    dark = (picture < 60).all(-1)
    dark[:, :200] = dark[:, -40:] = False  # the axes
    for path in (dark, (picture[..., 0] > 180) & (picture[..., 1] < 90)):
        columns = np.nonzero(path[600])[0]
        widths = path[60:150, columns.min() - 9 : columns.max() + 10].sum(1)
        assert widths.max() >= 2 * len(columns)


def test_the_same_paths_give_the_same_picture():
    path = np.arange(5.0), np.arange(5.0) ** 2
    np.testing.assert_array_equal(draw(*path), draw(*path))
