import numpy as np
import pytest
from helpers.sample_list import SampleList, random_samples

from md2dist.errors import EvaluationError
from md2dist.evaluation.depth import score_depth
from md2dist.prediction.colour_maps import colour_error
from md2dist.prediction.error_pictures import draw_errors, draw_worst


@pytest.fixture
def samples():
    return random_samples(np.random.default_rng(0), 6)


def predict(indices, samples):
    """A worse prediction for each further sample."""
    return [np.full((4, 8), 0.02 * (1 + index)) for index in indices]


def score(samples):
    (scores,) = score_depth(predict, samples, protocol="eigen", scalings=[1.0])
    return scores


def test_the_images_with_the_largest_errors_come_first(samples):
    scores = score(samples)
    errors = {score.key: score.metrics.abs_rel for score in scores}
    drawn = [key for key, _ in draw_worst(scores, 3, predict, samples, "eigen")]
    assert drawn == sorted(errors, key=lambda key: -errors[key])[:3]
    assert len(list(draw_worst(scores, 99, predict, samples, "eigen"))) == 6


def test_the_error_map_is_red_where_the_error_is_large_and_blue_where_it_is_none(samples):
    truth = np.zeros((100, 200), np.float32)
    truth[50:, :100], truth[50:, 100:] = 10, 20
    sample = samples[0]._replace(ground_truth=truth)
    ten_metres = np.full((4, 8), 0.1)
    ((row,),) = score_depth(
        lambda indices, samples: [ten_metres],
        SampleList([sample]),
        protocol="eigen",
        scalings=[1.0],
    )
    picture = draw_errors(sample, ten_metres, row, "eigen")
    height, width = picture.shape[:2]
    error_map = picture[height * 7 // 8, width // 2 :]
    none, large = error_map[width // 8], error_map[width * 3 // 8]
    np.testing.assert_allclose(none, colour_error(np.zeros(1))[0], atol=3)
    np.testing.assert_allclose(large, colour_error(np.ones(1))[0], atol=3)


def test_a_prediction_that_has_vanished_is_an_error(samples):
    gone = EvaluationError("no file")
    with pytest.raises(EvaluationError, match="no file"):
        list(draw_worst(score(samples), 1, lambda indices, samples: [gone], samples, "eigen"))
