"""Overlap of training and test data: drives that a model was trained on are no test of it."""

from collections.abc import Iterable
from typing import NamedTuple

from md2dist.data.kitti.drives import EIGEN_TEST_DRIVES, name_in_raw
from md2dist.data.shards.manifest import Manifest
from md2dist.errors import EvaluationError

_TESTS = ("eigen/test", "eigen_benchmark/test")
_OVERLAPPING = ("benchmark/", "odom/")  # published splits with drives of these tests
_NUM_NAMED = 3  # drives that a message names


class TrainingData(NamedTuple):
    """Samples that a model was trained on."""

    split: str = ""  # its name; "" if unknown, as for published weights
    drives: tuple[str, ...] = ()  # empty if unknown


def check_overlap(
    training: TrainingData, scored: Manifest, *, is_forced: bool = False
) -> str | None:
    """Refuses to score a model on the Eigen test if it was trained on drives of it.

    Args:
        training: what the model was trained on.
        scored: manifest of the shards.
        is_forced: whether to warn instead.

    Returns:
        A warning; None if no overlap is known. Validation splits share drives with their training
        splits, so they yield none.

    Raises:
        EvaluationError: if all scored drives are test drives, and some are training drives.
    """
    split = scored.recipe.split
    drives = _raw_drives(EIGEN_TEST_DRIVES if split in _TESTS else scored.drives)
    overlap = _describe_overlap(training, drives, split)
    if overlap is None or split.endswith("/val"):
        return None
    if drives <= EIGEN_TEST_DRIVES and not is_forced:
        raise EvaluationError(
            f"the model was trained on data that it would be tested on: {overlap}; use a model "
            "trained on eigen_zhou, eigen_full or a rule, or pass --force"
        )
    return f"the model was trained on data that it is tested on: {overlap}"


def _describe_overlap(training: TrainingData, drives: set[str], split: str) -> str | None:
    """Compares the drives, or the splits' names if those of the training are unknown."""
    if training.drives:
        shared = sorted(_raw_drives(training.drives) & drives)
        named = ", ".join(shared[:_NUM_NAMED]) + ", ..." * (len(shared) > _NUM_NAMED)
        place = training.split or "the training shards"
        return f"{place} has drives of {split}: {named}" if shared else None
    if split in _TESTS and training.split.startswith(_OVERLAPPING):
        return f"{training.split} has drives of {split}"
    return None


def _raw_drives(drives: Iterable[str]) -> set[str]:
    """Returns names of KITTI raw, without date folders, of drives or odometry sequences."""
    return {name_in_raw(drive, 0)[0].rpartition("/")[2] for drive in drives}
