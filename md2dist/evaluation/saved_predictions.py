"""Saved predictions of any program: one array of all images, or a folder with a file per image."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from md2dist.conventions import DEPTH_UNITS_PER_METRE
from md2dist.data.image_reader import MAX_PIXELS, load_image
from md2dist.data.shards.dataset import Sample, ShardDataset
from md2dist.errors import EvaluationError, ImageError
from md2dist.evaluation.depth import SamplePredictor
from md2dist.evaluation.depth_metrics import Map
from md2dist.evaluation.prediction_rows import find_rows
from md2dist.storage.bounded import read_bounded

Quantity = Literal["disparity", "depth"]  # scaled disparity in 1/m, or depth in m
_CAMERAS = {"l": "image_02", "r": "image_03"}
_ENDINGS = {"disparity": "_disparity", "depth": "_depth"}
_SUFFIXES = {"disparity": (".npy",), "depth": (".npy", ".png")}
_MAX_BYTES = 4 * MAX_PIXELS


def saved_predictor(
    path: Path,
    quantity: Quantity,
    dataset: ShardDataset,
    predicted_split: str | None = None,
    splits_dir: Path | None = None,
) -> SamplePredictor:
    """Opens saved predictions for the samples of a folder of shards.

    Args:
        path: a file .npy (N, h, w), whose rows `find_rows` relates to the samples, or a folder with
            one file for each sample, found by its name (see `name_files`): .npy (h, w), or 16-bit
            PNG of depth in steps of 1/256 m. Of any size (h, w); the array is not read into memory.
        quantity: what they are.
        dataset: the shards.
        predicted_split: as for `find_rows`.
        splits_dir: as for `find_rows`.

    Returns:
        A predictor for `score_depth`; of a sample without prediction, it returns the error.

    Raises:
        EvaluationError: if the file is damaged, of another shape or type, or does not fit.
        SplitError: if the list of samples cannot be read.
    """
    if not path.exists():
        raise EvaluationError(f"{path} does not exist; expected a file .npy or a folder")
    if path.is_dir():
        if predicted_split is not None:
            raise EvaluationError(
                f"--predictions-split {predicted_split} orders the rows of an array, but {path} is "
                "a folder, whose files are found by name; omit it"
            )
        return _FolderPredictor(path, quantity)
    array = read_array(path, 3)
    rows = find_rows(len(array), dataset, predicted_split, splits_dir)

    def predict(indices: Sequence[int], samples: Sequence[Sample]) -> list[Map | EvaluationError]:
        """Returns the scaled disparity (h, w) of each sample, or its error."""
        found: list[Map | EvaluationError] = []
        for index, sample in zip(indices, samples, strict=True):
            try:
                found.append(to_disparity(array[rows(index, sample)], quantity))
            except EvaluationError as error:
                found.append(error)
        return found

    return predict


def read_array(path: Path, num_dimensions: int) -> NDArray[np.floating]:
    """Maps an array of floating-point numbers into memory.

    Args:
        path: a file .npy.
        num_dimensions: 2 for (h, w), 3 for (N, h, w); axes of length 1 before (h, w) may be added.

    Returns:
        (h, w) or (N, h, w), read from disk when it is used.

    Raises:
        EvaluationError: if the file is missing, damaged, or has another type or shape.
    """
    expected = "(h, w)" if num_dimensions == 2 else "(N, h, w)"
    if path.suffix.lower() != ".npy":
        raise EvaluationError(f"{path} is not a .npy file; expected an array {expected} in one")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise EvaluationError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # on damaged bytes, NumPy raises errors of many types
        raise EvaluationError(f"{path} is damaged, or no array: {error}") from None
    shape = array.shape
    while array.ndim > num_dimensions and array.shape[-3] == 1:
        array = array.squeeze(-3)
    if array.ndim != num_dimensions or 0 in shape or array.dtype.kind != "f":
        raise EvaluationError(
            f"{path} holds {array.dtype} of shape {shape}; expected floating-point numbers of "
            f"{expected}"
        )
    if array.shape[-2] * array.shape[-1] > MAX_PIXELS:
        raise EvaluationError(f"{path} has maps of {shape[-2:]}; expected <= {MAX_PIXELS:,} pixels")
    return array


def name_files(sample: Sample, quantity: Quantity) -> list[str]:
    """Lists the names that the prediction of a sample may have in a folder, without suffix.

    They are the sample's key in the shards, or the image's place in KITTI, with or without the
    folder of its date; each plain or with the ending that `md2dist predict` adds.
    """
    info = sample.info
    place = f"{info['drive']}/{_CAMERAS[info['side']]}/data/{info['frame']:010d}"
    names = [sample.key, place, f"{info['date']}/{place}"]
    return [name + ending for name in names for ending in ("", _ENDINGS[quantity])]


class _FolderPredictor:
    """Predictions in a folder, one file for each sample."""

    def __init__(self, folder: Path, quantity: Quantity):
        self._folder = folder
        self._quantity: Quantity = quantity

    def __call__(
        self, indices: Sequence[int], samples: Sequence[Sample]
    ) -> Iterator[Map | EvaluationError]:
        """Yields the scaled disparity (h, w) of each sample, or its error."""
        for sample in samples:
            try:
                yield to_disparity(self._read(sample), self._quantity)
            except EvaluationError as error:
                yield error

    def _find(self, sample: Sample, quantity: Quantity) -> Path | None:
        """Finds the prediction of a sample."""
        names = name_files(sample, quantity)
        paths = [self._folder / (name + end) for end in _SUFFIXES[quantity] for name in names]
        return next((path for path in paths if path.is_file()), None)

    def _read(self, sample: Sample) -> NDArray[np.floating]:
        """Reads the prediction (h, w) of a sample."""
        found = self._find(sample, self._quantity)
        if found is not None:
            return read_array(found, 2) if found.suffix == ".npy" else _read_depth_png(found)
        if other := self._find(sample, "depth"):
            raise EvaluationError(
                f"{other} is not an array of disparities; pass --predictions-are depth if it is "
                "depth in m"
            )
        names, suffixes = name_files(sample, self._quantity), _SUFFIXES[self._quantity]
        raise EvaluationError(
            f"no file of it is in {self._folder}; expected {names[0]} or {names[2]}, "
            f"{' or '.join(suffixes)}"
        )


def _read_depth_png(path: Path) -> NDArray[np.floating]:
    """Reads depth (h, w) in m from a 16-bit PNG."""
    try:
        image = load_image(read_bounded(path, _MAX_BYTES), ["PNG"])
    except OSError as error:
        raise EvaluationError(f"{path} cannot be read: {error.strerror or error}") from None
    except ImageError as error:
        raise EvaluationError(f"{path} cannot be read as a depth map: {error}") from None
    if image.mode != "I;16":
        raise EvaluationError(f"{path} has the mode {image.mode}; expected 16-bit greyscale")
    return np.asarray(image) / np.float32(DEPTH_UNITS_PER_METRE)


def to_disparity(values: Any, quantity: Quantity) -> Map:
    """Returns predictions (h, w) as scaled disparity in 1/m, in their own type or float32.

    Depth becomes its inverse, in float64; where it is 0, the result is infinite.
    """
    if quantity == "disparity":
        return np.asarray(values)
    with np.errstate(divide="ignore"):
        return torch.from_numpy(1 / np.asarray(values, np.float64))
