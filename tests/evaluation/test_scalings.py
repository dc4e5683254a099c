import pytest

from md2dist.errors import EvaluationError
from md2dist.evaluation.scalings import choose_scalings


@pytest.mark.parametrize(
    ("text", "origin", "expected"),
    [
        ("auto", "stereo", 5.4),
        ("auto", "mono", "median"),
        ("auto", "depth", 1.0),
        ("median", "stereo", "median"),
        ("median", "depth", "median"),
        ("31.2", "mono", 31.2),
        ("5.4", "disparity", 5.4),
    ],
)
def test_the_scaling_follows_from_the_origin_or_is_the_one_asked_for(text, origin, expected):
    assert choose_scalings(text, origin) == [expected]


def test_the_calibrated_scaling_comes_beside_the_nominal_one():
    assert choose_scalings("auto", "stereo", is_calibrated=True) == [5.4, "calibrated"]
    assert choose_scalings("5.4", "disparity", is_calibrated=True) == [5.4, "calibrated"]


@pytest.mark.parametrize(("text", "is_calibrated"), [("5.4", False), ("auto", True)])
def test_stereo_scalings_of_a_model_of_video_are_refused_unless_forced(text, is_calibrated):
    with pytest.raises(EvaluationError, match=r"video alone.*--scaling median, or --force"):
        choose_scalings(text, "mono", is_calibrated=is_calibrated)
    chosen = choose_scalings(text, "mono", is_calibrated=is_calibrated, is_forced=True)
    assert len(chosen) == 1 + is_calibrated


def test_saved_disparities_need_an_explicit_scaling():
    with pytest.raises(EvaluationError, match=r"--scaling median if .*, --scaling 5.4 if"):
        choose_scalings("auto", "disparity")


def test_metric_depth_is_not_calibrated():
    with pytest.raises(EvaluationError, match="in metres; omit it"):
        choose_scalings("auto", "depth", is_calibrated=True)
