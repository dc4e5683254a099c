import numpy as np
import pytest
from PIL import ImageDraw

from md2dist.prediction.colour_bar import draw_colour_bar
from md2dist.prediction.colour_maps import colour_disparity, disparity_bounds


@pytest.fixture
def labels(monkeypatch):
    """Labels that are drawn, with their columns."""
    drawn = []

    def text(pen, position, text, *others, **options):
        drawn.append((text, position[0]))

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return drawn


def test_each_label_is_below_the_colour_of_its_depth(labels):
    bar = draw_colour_bar(2484, (5.4 / 80, 5.4 / 4), 5.4, is_metric=True)
    assert labels.pop(0)[0] == "depth (m)"
    labels.sort(key=lambda label: label[1])
    depths = [float(text) for text, _ in labels]
    assert depths == sorted(depths)
    assert {5, 10, 20, 50} < set(depths)
    for depth, column in zip(depths, (column for _, column in labels), strict=True):
        expected = colour_disparity(np.array([5.4 / depth]), (5.4 / 80, 5.4 / 4))[0]
        difference = bar[30, round(column)].astype(int) - expected
        assert np.abs(difference).max() <= 4, depth


def test_relative_depth_has_no_unit(labels):
    draw_colour_bar(1200, (0.5, 10.0), 1.0, is_metric=False)
    assert labels[0][0] == "relative depth"
    assert {"0.1", "1"} <= {text for text, _ in labels}


@pytest.mark.parametrize("bounds", [(0.9, 1.2), (0.3, 0.3001), (1e-3, 1e3), (0.01, 2)])
def test_any_range_has_at_least_two_labels_apart_from_each_other(labels, bounds):
    draw_colour_bar(2484, bounds, 5.4, is_metric=True)
    columns = sorted(column for _, column in labels[1:])
    assert len(columns) >= 2
    assert min(np.diff(columns)) > 33


@pytest.mark.parametrize("width", [1, 2, 30, 200, 9000])
@pytest.mark.parametrize("bounds", [(0.3, 0.3), (1e-3, 1e3), (0.3, 0.3001)])
def test_a_bar_of_any_width_and_range_is_drawn(width, bounds):
    bar = draw_colour_bar(width, bounds, 5.4, is_metric=True)
    assert bar.shape[1:] == (width, 3)
    assert 26 <= len(bar) <= 170
    assert bar.dtype == np.uint8


def test_the_bounds_are_the_minimum_and_the_95th_percentile():
    values = np.arange(101.0) + 5
    assert disparity_bounds(values) == (5, 100)
    np.testing.assert_array_equal(colour_disparity(values), colour_disparity(values, (5, 100)))
