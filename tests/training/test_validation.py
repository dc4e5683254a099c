import pytest
import torch
from helpers.small_shards import write_small_shards

from md2dist.config import load_config
from md2dist.data.shards.dataset import ShardDataset
from md2dist.distributed.world import World
from md2dist.evaluation.depth import evaluate_depth
from md2dist.evaluation.depth_scores import summarise
from md2dist.evaluation.flip_postprocess import with_flip_postprocess
from md2dist.model import MonodepthModel
from md2dist.prediction.error_pictures import draw_validation_panel
from md2dist.prediction.predictor import frames_predictor
from md2dist.training.validation.depth import draw_panels, tabulate_worst, validate


@pytest.mark.parametrize(
    ("ground_truth", "protocol"), [("velodyne", "eigen"), ("annotated", "eigen_benchmark")]
)
def test_training_validates_by_the_protocol_of_the_shards(tmp_path, ground_truth, protocol):
    shards = write_small_shards(tmp_path, 3, height=64, width=64, ground_truth=ground_truth)
    words = ["data.height=64", "data.width=64", "data.use_stereo=false"]
    model = MonodepthModel.from_config(load_config(overrides=words)).train()
    scores = validate(model, ShardDataset(shards), World(0, 0, 1, torch.device("cpu")))
    assert model.training
    expected = evaluate_depth(
        frames_predictor(model.eval()),
        ShardDataset(shards),
        protocol=protocol,
        scaling="median",
    )
    assert summarise(scores) == expected


def test_flip_post_processing_is_that_of_the_evaluation(tmp_path):
    shards = write_small_shards(tmp_path, 3, height=64, width=64, ground_truth="velodyne")
    words = ["data.height=64", "data.width=64", "data.use_stereo=false"]
    model = MonodepthModel.from_config(load_config(overrides=words)).train()
    alone = World(0, 0, 1, torch.device("cpu"))
    plain, flipped = (
        summarise(validate(model, ShardDataset(shards), alone, use_flip_postprocess=use))
        for use in (False, True)
    )
    expected = evaluate_depth(
        with_flip_postprocess(frames_predictor(model.eval())),
        ShardDataset(shards),
        protocol="eigen",
        scaling="median",
    )
    assert flipped == expected != plain


def test_a_validation_draws_the_same_few_images_each_time(tmp_path):
    shards = write_small_shards(tmp_path, 6, height=64, width=64, ground_truth="velodyne")
    words = ["data.height=64", "data.width=64", "data.use_stereo=false"]
    model = MonodepthModel.from_config(load_config(overrides=words)).train()
    dataset = ShardDataset(shards)
    panels = list(draw_panels(model, dataset, 2))
    assert model.training
    assert [panel.shape for panel in panels] == [(4 * 416, 416, 3)] * 2
    predict = frames_predictor(model.eval())
    for panel, sample in zip(panels, (dataset[1], dataset[4]), strict=True):
        disparity = predict(torch.tensor(sample.frames["0"])[None])[0, 0]
        expected = draw_validation_panel(sample, disparity, "eigen", "median")
        assert (panel == expected).all()
    assert len(list(draw_panels(model, dataset, 100))) == 6


def test_the_worst_images_come_first_in_their_table_with_the_scores_of_the_validation(tmp_path):
    shards = write_small_shards(tmp_path, 6, height=64, width=64, ground_truth="velodyne")
    words = ["data.height=64", "data.width=64", "data.use_stereo=false"]
    model = MonodepthModel.from_config(load_config(overrides=words)).train()
    dataset = ShardDataset(shards)
    scores = validate(model, dataset, World(0, 0, 1, torch.device("cpu")))
    rows = list(tabulate_worst(model, dataset, scores, 3))
    assert model.training
    worst = sorted(scores, key=lambda score: score.metrics.abs_rel)[:-4:-1]
    assert [row["abs_rel"] for row in rows] == [score.metrics.abs_rel for score in worst]
    assert [(row["drive"], row["frame"]) for row in rows] == [(s.drive, s.frame) for s in worst]
    for row in rows:
        index = next(i for i, score in enumerate(scores) if score.key == row["key"])
        disparity = frames_predictor(model.eval())(torch.tensor(dataset[index].frames["0"])[None])
        picture = draw_validation_panel(dataset[index], disparity[0, 0], "eigen", row["factor"])
        assert (row["picture"] == picture).all()
    assert len(list(tabulate_worst(model, dataset, scores, 100))) == 6
