import numpy as np
import pytest
import torch
from helpers.sample_list import SampleList, random_samples
from reference import evaluation as reference

from md2dist.distributed.topology import Topology
from md2dist.errors import EvaluationError, ShardError
from md2dist.evaluation.depth import (
    EvaluationInterrupted,
    evaluate_depth,
    score_depth,
    with_frames,
)
from md2dist.evaluation.depth_metrics import evaluate_image
from md2dist.evaluation.depth_scores import summarise, summarise_drives
from md2dist.evaluation.flip_postprocess import blend_mirrored, with_flip_postprocess


def predict(frames):
    """Some positive function of the frame, not symmetric."""
    column = torch.linspace(0.5, 1.5, frames.shape[2], dtype=torch.float64)
    return (frames.double().mean(-1) / 255 * column + 0.02)[:, None]


@pytest.fixture
def samples():
    return random_samples(np.random.default_rng(0), 13)


def evaluate(samples, predict=predict, protocol="eigen", scaling="median", **settings):
    return evaluate_depth(predict, samples, protocol=protocol, scaling=scaling, **settings)


class Stop(Exception):  # noqa: N818, a jump
    pass


def parts_of(samples, world_size, **settings):
    """What each rank would gather; the ranks run one after another."""
    parts = []

    def keep(part):
        parts.append(part)
        raise Stop

    for rank in range(world_size):
        with pytest.raises(Stop):
            evaluate(samples, topology=Topology(rank, world_size), gather=keep, **settings)
    return parts


def evaluate_on_ranks(samples, world_size, **settings):
    """Each rank's report, or error."""
    parts = parts_of(samples, world_size, **settings)
    results = []
    for rank in range(world_size):
        topology = Topology(rank, world_size)
        try:
            report = evaluate(samples, topology=topology, gather=lambda _: parts, **settings)
        except (ShardError, EvaluationError, EvaluationInterrupted) as error:
            report = (type(error), str(error))
        results.append(report)
    return results


@pytest.mark.parametrize("scaling", ["median", 5.4])
@pytest.mark.parametrize("protocol", ["eigen", "eigen_benchmark"])
def test_the_report_is_the_mean_of_the_slow_twin(samples, protocol, scaling):
    rows = [
        reference.evaluate_image(
            predict(torch.tensor(sample.frames["0"])[None])[0, 0].tolist(),
            sample.ground_truth,
            protocol,
            scaling,
        )
        for sample in samples
    ]
    report = evaluate(samples, protocol=protocol, scaling=scaling)
    ratios = [row[7] for row in rows]
    assert report.num_images == 13
    np.testing.assert_allclose(report.metrics, np.mean(rows, axis=0)[:7], rtol=1e-12)
    assert report.median_ratio == pytest.approx(reference.middle(ratios), rel=1e-12)
    assert report.ratio_std == pytest.approx(np.std(ratios) / np.median(ratios), rel=1e-12)


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_any_number_of_ranks_gives_the_report_of_one(samples, world_size):
    """Thirteen images in batches of four: with five ranks one has nothing to do."""
    alone = evaluate(samples, batch_size=4)
    assert evaluate_on_ranks(samples, world_size, batch_size=4) == [alone] * world_size


def test_batches_are_the_same_for_any_number_of_ranks(samples):
    """So that even a network whose rounding depends on the batch gives the same figures."""

    def stop(part):
        raise Stop

    def batches_of(world_size):
        seen = []
        for rank in range(world_size):
            with pytest.raises(Stop):
                evaluate(
                    samples,
                    lambda frames: seen.append(frames.clone()) or predict(frames),
                    topology=Topology(rank, world_size),
                    gather=stop,
                    batch_size=4,
                )
        return sorted(batch.cpu().numpy().tobytes() for batch in seen)

    assert len(batches_of(1)) == 4
    assert batches_of(1) == batches_of(2) == batches_of(3)


def test_the_batch_size_does_not_matter(samples):
    assert evaluate(samples, batch_size=1) == evaluate(samples, batch_size=100)


def test_blending_equals_the_slow_twin():
    plain, mirrored = torch.rand(2, 3, 1, 4, 41, dtype=torch.float64)
    expected = [
        reference.blend_row(a, b)
        for a, b in zip(
            plain.reshape(-1, 41).tolist(), mirrored.reshape(-1, 41).tolist(), strict=True
        )
    ]
    blended = blend_mirrored(plain, mirrored)
    np.testing.assert_allclose(blended.reshape(-1, 41), expected, rtol=1e-12)


def test_blending_takes_each_border_from_the_view_that_sees_it():
    plain, mirrored = torch.full((1, 41), 1.0), torch.full((1, 41), 3.0)
    blended = blend_mirrored(plain, mirrored)[0]
    assert (blended[0], blended[20], blended[-1]) == (3.0, 2.0, 1.0)


def test_flip_post_processing_blends_with_the_mirrored_prediction(samples):
    def predict_both(frames):
        plain, mirrored = predict(frames), predict(frames.flip(2)).flip(3)
        return blend_mirrored(plain, mirrored)

    blended = evaluate(samples, with_flip_postprocess(predict))
    assert blended == evaluate(samples, predict_both)
    assert blended != evaluate(samples)


def test_a_symmetric_predictor_is_not_changed_by_flip_post_processing(samples):
    def predict_symmetric(frames):
        return frames.double().mean(-1)[:, None] / 255 + 0.02

    blended = evaluate(samples, with_flip_postprocess(predict_symmetric))
    np.testing.assert_allclose(
        blended.metrics, evaluate(samples, predict_symmetric).metrics, rtol=1e-12
    )


def test_shards_without_ground_truth_are_refused(samples):
    samples[3] = samples[3]._replace(ground_truth=None)
    with pytest.raises(ShardError, match="--ground-truth"):
        evaluate(samples)


def test_empty_shards_are_refused():
    with pytest.raises(ShardError, match="no samples"):
        evaluate(SampleList())


def test_an_image_that_cannot_be_compared_is_named_on_every_rank(samples):
    samples[6] = samples[6]._replace(ground_truth=np.zeros((20, 50), np.float32))
    with pytest.raises(EvaluationError, match=r"1 of 13 images .* the first is sample_6: no pixel"):
        evaluate(samples)
    first, second = evaluate_on_ranks(samples, 2, batch_size=4)
    assert first == second
    assert first[0] is EvaluationError
    assert "sample_6" in first[1]


def test_an_evaluation_that_any_rank_interrupts_has_no_result(samples):
    asked = iter([False, True])
    with pytest.raises(EvaluationInterrupted):
        evaluate(samples, batch_size=4, is_stopping=lambda: next(asked))
    stops = iter([False, False, True] * 2)
    results = evaluate_on_ranks(samples, 2, batch_size=4, is_stopping=lambda: next(stops, False))
    assert results == [(EvaluationInterrupted, "")] * 2


def test_a_rank_that_cannot_read_stops_at_once_and_raises_after_the_ranks_have_met(samples):
    class Unreadable(SampleList):
        def __getitem__(self, index):
            asked.append(index)
            if index >= 6:
                raise ShardError(f"sample {index} cannot be had")
            return super().__getitem__(index)

    asked, met = [], []
    with pytest.raises(ShardError, match="sample 6 cannot be had"):
        evaluate(Unreadable(samples), batch_size=4, gather=lambda part: met.append(1) or [part])
    assert asked == list(range(7))
    assert met == [1]


def test_samples_that_one_rank_cannot_read_end_the_evaluation_on_all_with_its_number(samples):
    samples[6] = samples[6]._replace(ground_truth=None)
    first, second = evaluate_on_ranks(samples, 2, batch_size=4)
    assert first == second
    assert first[0] is ShardError
    assert first[1].startswith("rank 1: sample sample_6 has no ground truth")


def test_a_prediction_that_is_not_finite_is_reported_for_the_image(samples):
    def predict_nan(frames):
        return predict(frames) * torch.nan

    with pytest.raises(EvaluationError, match="13 of 13 images"):
        evaluate(samples, predict_nan)


def test_an_infinite_ground_truth_is_reported_for_the_image(samples):
    samples[3].ground_truth[:] = np.inf
    with pytest.raises(EvaluationError, match=rf"1 of 13 images .* {samples[3].key}: .*infinite"):
        evaluate(samples, protocol="eigen_benchmark")


def test_an_unknown_protocol_is_refused(samples):
    with pytest.raises(EvaluationError, match="expected one of eigen, eigen_benchmark"):
        evaluate(samples, protocol="garg")


def test_the_public_function_agrees_with_the_report_of_one_image(samples):
    frame = torch.tensor(samples[0].frames["0"])[None]
    metrics = evaluate_image(predict(frame)[0, 0], samples[0].ground_truth, scaling=5.4)
    np.testing.assert_allclose(
        evaluate(SampleList(samples[:1]), scaling=5.4).metrics, metrics, rtol=1e-15
    )


def score(samples, *scalings):
    return score_depth(
        with_frames(predict), SampleList(samples), protocol="eigen", scalings=scalings
    )


def test_several_scalings_are_scored_in_one_pass_as_if_alone(samples):
    together = score(samples, "median", 5.4)
    assert together == [score(samples, "median")[0], score(samples, 5.4)[0]]


def test_the_calibrated_scale_is_the_baseline_of_each_image_over_that_of_training(samples):
    (scores,) = score(samples, "calibrated")
    assert [s.factor for s in scores[:3]] == pytest.approx([5.3, 5.4, 5.5])
    assert scores[1].metrics == pytest.approx(score(samples, 5.4)[0][1].metrics)
    assert scores[0].metrics == score(samples[:1], scores[0].factor)[0][0].metrics


def test_the_scores_name_the_images_in_the_order_of_the_shards(samples):
    (scores,) = score(samples, "median")
    assert [s[:4] for s in scores[:2]] == [
        ("sample_0", "drive_0", 0, "l"),
        ("sample_1", "drive_1", 1, "r"),
    ]


def test_the_report_of_a_drive_is_that_of_its_images_alone(samples):
    (scores,) = score(samples, "median")
    drives = summarise_drives(scores)
    assert list(drives) == ["drive_0", "drive_1", "drive_2"]
    assert drives["drive_1"] == summarise(score(samples[1::3], "median")[0])
    assert sum(report.num_images for report in drives.values()) == 13


def test_of_many_images_without_metrics_a_few_are_named(samples):
    with pytest.raises(EvaluationError) as caught:
        evaluate(samples, lambda frames: predict(frames) * 0)
    assert "13 of 13 images cannot be evaluated, the first is sample_0: the scaled" in str(
        caught.value
    )
    assert str(caught.value).endswith("sample_1, sample_2, sample_3, sample_4, ...")
