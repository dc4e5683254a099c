import shutil

import pytest
from helpers.checkpoints import resume_state, write_checkpoint
from helpers.small_shards import write_small_shards

from md2dist.config import load_config
from md2dist.data.shards.manifest import Manifest, read_manifest
from md2dist.data.shards.recipe import Recipe
from md2dist.errors import EvaluationError
from md2dist.evaluation.training_overlap import TrainingData, check_overlap
from md2dist.weights import find_training_data

TEST_DRIVE, TRAINING_DRIVE = "2011_09_26_drive_0002_sync", "2011_09_26_drive_0001_sync"


def shards_of(split, *drives):
    recipe = Recipe(split, 192, 640, (), False, ground_truth="velodyne")
    return Manifest(recipe, (), drives=drives)


@pytest.mark.parametrize(
    ("training", "scored"),
    [
        (TrainingData("benchmark/train", (TRAINING_DRIVE, TEST_DRIVE)), shards_of("eigen/test")),
        (TrainingData("mine.txt", (TEST_DRIVE,)), shards_of("eigen_benchmark/test", TEST_DRIVE)),
        (TrainingData("mine.txt", (TEST_DRIVE,)), shards_of("test_files.txt", TEST_DRIVE)),
        (TrainingData("odom/train", ("00", "01")), shards_of("eigen/test")),
        (TrainingData("benchmark/train"), shards_of("eigen/test")),
        (TrainingData("odom/train"), shards_of("eigen_benchmark/test")),
    ],
)
def test_a_model_trained_on_drives_of_the_eigen_test_is_refused_unless_forced(training, scored):
    with pytest.raises(EvaluationError, match=rf"{training.split} has drives of .*--force"):
        check_overlap(training, scored)
    warning = check_overlap(training, scored, is_forced=True)
    assert f"{training.split} has drives of {scored.recipe.split}" in warning


@pytest.mark.parametrize(
    ("training", "scored"),
    [
        (TrainingData("eigen_zhou/train", (TRAINING_DRIVE,)), shards_of("eigen/test", TEST_DRIVE)),
        (TrainingData("benchmark/train", (TRAINING_DRIVE,)), shards_of("eigen/test", TEST_DRIVE)),
        (TrainingData("odom/train", ("01", "02")), shards_of("eigen/test")),
        (TrainingData("rule/train"), shards_of("eigen/test")),
        (TrainingData("mine", (TRAINING_DRIVE,)), shards_of("eigen_zhou/val", TRAINING_DRIVE)),
        (TrainingData(), shards_of("eigen/test", TEST_DRIVE)),
    ],
)  # fmt: skip
def test_other_drives_validation_splits_and_unknown_training_data_are_accepted(training, scored):
    assert check_overlap(training, scored) is None


def test_drives_of_another_list_yield_a_warning():
    training = TrainingData("mine_train.txt", (TRAINING_DRIVE, TEST_DRIVE))
    warning = check_overlap(training, shards_of("mine_test.txt", TRAINING_DRIVE, "other"))
    assert warning.endswith(f"mine_train.txt has drives of mine_test.txt: {TRAINING_DRIVE}")


def test_a_checkpoint_records_what_it_was_trained_on(tmp_path):
    state = resume_state(3, train_split="benchmark/train", train_drives=(TEST_DRIVE,))
    checkpoint = write_checkpoint(tmp_path, state)
    assert find_training_data(checkpoint) == TrainingData("benchmark/train", (TEST_DRIVE,))


def test_for_an_old_checkpoint_the_training_shards_are_asked_if_they_are_unchanged(tmp_path):
    shards = write_small_shards(tmp_path / "shards", 2)
    config = load_config(overrides=[f"data.train_shards={shards}"])
    digest = read_manifest(shards).digest
    same = write_checkpoint(tmp_path, resume_state(3, shard_digest=digest), config=config)
    other = write_checkpoint(tmp_path, resume_state(4), config=config)
    assert find_training_data(same) == TrainingData("small")
    assert find_training_data(other) == TrainingData()
    shutil.rmtree(shards)
    assert find_training_data(same) == TrainingData()
