import pytest

from md2dist.prediction.aspect_crop import aspect_box


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((640, 192), (0, 0, 640, 192)),
        ((1280, 384), (0, 0, 1280, 384)),
        ((640, 480), (0, 144, 640, 336)),
        ((1000, 192), (180, 0, 820, 192)),
        ((1, 1000), (0, 499, 1, 500)),
        ((1000, 1), (498, 0, 501, 1)),
    ],
)
def test_the_crop_is_the_largest_at_the_centre_with_the_models_aspect(size, box):
    assert aspect_box(size, (640, 192)) == box
