"""Choice of the protocol and of the scalings."""

import pytest
from helpers.small_shards import write_small_shards

from md2dist.data.shards.manifest import read_manifest
from md2dist.errors import EvaluationError, ShardError
from md2dist.evaluation.protocols import choose_protocol
from md2dist.evaluation.scalings import choose_scalings


@pytest.fixture
def recipe_of(tmp_path):
    """The recipe of small shards with some ground truth."""

    def pack(ground_truth):
        folder = write_small_shards(tmp_path / ground_truth, 1, ground_truth=ground_truth)
        return read_manifest(folder).recipe

    return pack


@pytest.mark.parametrize(
    ("ground_truth", "protocol"), [("velodyne", "eigen"), ("annotated", "eigen_benchmark")]
)
def test_the_protocol_follows_from_the_ground_truth_or_agrees_with_it(
    recipe_of, ground_truth, protocol
):
    recipe = recipe_of(ground_truth)
    assert choose_protocol(recipe, "shards") == protocol
    assert choose_protocol(recipe, "shards", protocol) == protocol


@pytest.mark.parametrize(
    ("ground_truth", "wanted", "split"),
    [
        ("annotated", "eigen", "eigen/test"),
        ("velodyne", "eigen_benchmark", "eigen_benchmark/test"),
    ],
)
def test_a_protocol_for_other_ground_truth_names_both_and_the_command(
    recipe_of, ground_truth, wanted, split
):
    with pytest.raises(ShardError) as caught:
        choose_protocol(recipe_of(ground_truth), "my/shards", wanted)
    message = str(caught.value)
    other = {"annotated": "velodyne", "velodyne": "annotated"}[ground_truth]
    assert message.startswith(f"my/shards carries {ground_truth} depth")
    assert f"for protocol {wanted} pack with `md2dist pack" in message
    assert f"--split {split}" in message
    assert f"--ground-truth {other}" in message
    assert f"--ground-truth {ground_truth}" not in message


def test_shards_without_ground_truth_name_the_commands_of_both(recipe_of):
    with pytest.raises(
        ShardError, match=r"--ground-truth velodyne .*--ground-truth annotated"
    ) as caught:
        choose_protocol(recipe_of("none"), "my/shards")
    assert str(caught.value).startswith("my/shards carries no ground truth; for protocol eigen ")


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
