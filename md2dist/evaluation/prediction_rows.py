"""Rows of a file of predictions: which of them belongs to which sample of a folder of shards."""

from collections.abc import Callable
from pathlib import Path

from md2dist.data.kitti.named_splits import find_split
from md2dist.data.kitti.published_splits import PUBLISHED_SPLITS
from md2dist.data.kitti.splits import read_split
from md2dist.data.shards.dataset import Sample, ShardDataset
from md2dist.errors import EvaluationError

RowFinder = Callable[[int, Sample], int]
# Lists in whose order predictions for a split are usually saved; the images are a part of the list.
_LONGER_LISTS = {"eigen_benchmark/test": "eigen/test"}


def find_rows(
    num_rows: int,
    dataset: ShardDataset,
    predicted_split: str | None = None,
    splits_dir: str | Path | None = None,
) -> RowFinder:
    """Relates the rows of a file of predictions to samples.

    Without a list of samples, row i is sample i, if the shards keep the order of their split and
    the numbers are equal. Predictions for all of eigen/test fit shards of eigen_benchmark/test, as
    do predictions for a whole split shards of which --skip-bad skipped samples.

    Args:
        num_rows: number of predictions in the file.
        dataset: the shards.
        predicted_split: list of samples in whose order the predictions were saved: a split file, or
            a name such as ``eigen/test``. None: that of the shards, or as above.
        splits_dir: folder of named splits; None: the published lists, which are downloaded once.

    Returns:
        A function from a sample's number and the sample to its row; it raises EvaluationError if
        there is none.

    Raises:
        EvaluationError: if the number or the order of the predictions does not fit.
        SplitError: if the list cannot be read.
    """
    manifest = dataset.manifest
    is_sequential = manifest.recipe.order == "sequential"
    name = predicted_split or _guess_list(num_rows, dataset)
    if name is None:
        if num_rows != len(dataset):
            raise EvaluationError(
                f"there are {num_rows} predictions for the {len(dataset)} samples of "
                f"{dataset.place}; expected one for each, or --predictions-split SPLIT with the "
                "list of samples in whose order they were saved"
            )
        if not is_sequential:
            raise EvaluationError(
                f"{dataset.place} is packed in shuffled order, so the rows of the predictions "
                "cannot be related to its samples; pack it again with --order sequential, or pass "
                "--predictions-split SPLIT with the list of samples in whose order the predictions "
                "were saved"
            )
        return lambda index, sample: index
    lines = read_split(find_split(name, splits_dir))
    if len(lines) != num_rows:
        raise EvaluationError(
            f"there are {num_rows} predictions, but split {name} has {len(lines)} samples; "
            "expected one for each, in its order"
        )
    rows = {line.key: row for row, line in enumerate(lines)}

    def find_row(index: int, sample: Sample) -> int:
        if sample.key not in rows:
            raise EvaluationError(f"split {name}, in whose order predictions are, does not list it")
        return rows[sample.key]

    return find_row


def _guess_list(num_rows: int, dataset: ShardDataset) -> str | None:
    """Returns the list of samples that a file with other rows than the shards may follow."""
    if num_rows == len(dataset):
        return None
    manifest = dataset.manifest
    split = manifest.recipe.split
    num_skipped = sum(drive.count for drive in manifest.skipped)
    if num_rows == len(dataset) + num_skipped and split in PUBLISHED_SPLITS:
        return split
    return _LONGER_LISTS.get(split)
