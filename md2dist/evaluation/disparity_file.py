"""File of scaled disparities that several processes write together, a row for each image."""

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from md2dist.data.shards.dataset import Sample, ShardDataset
from md2dist.distributed.agreement import exit_on_all_ranks
from md2dist.distributed.world import World, gather_over_ranks
from md2dist.errors import EvaluationError, ImageError, ShardError
from md2dist.evaluation.depth import SamplePredictor
from md2dist.evaluation.depth_metrics import Map
from md2dist.storage.atomic import publish
from md2dist.storage.results import prepare_file


def create_disparities(path: Path, shape: tuple[int, int, int]) -> Path:
    """Creates the file under a temporary name, full of zeros; one process does this.

    Args:
        path: the final name, .npy.
        shape: images, rows and columns (N, h, w).

    Returns:
        The temporary name in the same folder.

    Raises:
        ImageError: if its name does not end in .npy, or it cannot be created.
    """
    prepare_file(path, suffixes=[".npy"])
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    try:
        with partial.open("xb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + 4 * shape[0] * shape[1] * shape[2])
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise _refuse(path, error) from None
    return partial


def publish_disparities(partial: Path, path: Path) -> None:
    """Gives the file its final name, once all processes have closed it.

    Raises:
        ImageError: if it cannot be renamed.
    """
    try:
        publish(partial, path)
    except OSError as error:
        raise _refuse(path, error) from None


class DisparityWriter:
    """Writes rows of a file that `create_disparities` has made; each process opens its own.

    Rows are written one by one and not through a memory map, whose pages several machines may not
    share on a network file system.

    Args:
        partial: its temporary name.

    Raises:
        ImageError: if it cannot be opened, as on a machine that does not share its folder.
    """

    def __init__(self, partial: Path):
        self._path = partial
        try:
            self._file = partial.open("r+b", buffering=0)
            np.lib.format.read_magic(self._file)
            (_, *shape), _, _ = np.lib.format.read_array_header_1_0(self._file)
        except OSError as error:
            raise _refuse(partial, error) from None
        self._start, self._shape = self._file.tell(), tuple(shape)

    def close(self) -> None:
        """Flushes the rows to disk and closes the file.

        Raises:
            ImageError: if they cannot be written.
        """
        try:
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise _refuse(self._path, error) from None

    def recording(self, predict: SamplePredictor) -> SamplePredictor:
        """Returns a predictor that also writes each of its maps (h, w) to the sample's row."""

        def predict_and_write(
            indices: Sequence[int], samples: Sequence[Sample]
        ) -> list[Map | EvaluationError]:
            """Returns the maps (h, w)."""
            found = list(predict(indices, samples))
            for index, values in zip(indices, found, strict=True):
                if not isinstance(values, EvaluationError):
                    self.write(index, values)
            return found

        return predict_and_write

    def write(self, index: int, values: Map) -> None:
        """Writes scaled disparity (h, w) in 1/m as float32 to a row.

        Raises:
            EvaluationError: if it has another size than the file.
            ImageError: if it cannot be written.
        """
        row = to_float32(values)
        if row.shape != self._shape:
            raise EvaluationError(
                f"prediction {index} has {row.shape[0]}x{row.shape[1]} pixels, the first one "
                f"{self._shape[0]}x{self._shape[1]}; --save-disparities expects one size"
            )
        content = memoryview(row.tobytes())
        position = self._start + index * len(content)
        try:
            while content:
                written = os.pwrite(self._file.fileno(), content, position)
                content, position = content[written:], position + written
        except OSError as error:
            raise _refuse(self._path, error) from None


def to_float32(values: Map) -> np.ndarray:
    """Returns a map (h, w) as float32 on the host, rows first."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().float().numpy()
    return np.ascontiguousarray(values, "<f4")


def shape_of(predict: SamplePredictor, dataset: ShardDataset) -> tuple[int, int, int]:
    """Returns the shape (N, h, w) of the predictions for shards, from the first one.

    Raises:
        EvaluationError: if the first sample has no prediction.
    """
    sample = dataset[0]
    (first,) = predict([0], [sample])
    if isinstance(first, EvaluationError):
        raise EvaluationError(f"{sample.key}: {first}")
    height, width = first.shape
    return len(dataset), height, width


@contextmanager
def saving_disparities(
    path: Path | None, predict: SamplePredictor, dataset: ShardDataset, world: World
) -> Iterator[SamplePredictor]:
    """Saves what a predictor returns in the block, in the layout of published programs.

    All ranks must enter and leave the block. The file gets its name if the block has succeeded.

    Args:
        path: a file .npy for all samples in their order; None: nothing is saved.
        predict: predictor of samples.
        dataset: the samples that are going to be scored.
        world: this process.

    Yields:
        The predictor to use in the block.

    Raises:
        Md2distError: if the file cannot be written, or the shards are shuffled; several ranks exit.
    """
    if path is None:
        yield predict
        return
    partial = None
    with exit_on_all_ranks(world):
        if dataset.manifest.recipe.order != "sequential":
            raise ShardError(
                f"{dataset.place} is packed in shuffled order, but --save-disparities expects "
                "that of the split; pack it again with --order sequential"
            )
        if world.is_main:
            partial = create_disparities(path, shape_of(predict, dataset))
    partial = gather_over_ranks(partial)[0]
    try:
        with exit_on_all_ranks(world):
            writer = DisparityWriter(partial)
        yield writer.recording(predict)
        with exit_on_all_ranks(world):
            writer.close()
        with exit_on_all_ranks(world):
            if world.is_main:
                publish_disparities(partial, path)
    finally:
        if world.is_main:
            partial.unlink(missing_ok=True)


def _refuse(path: Path, error: OSError) -> ImageError:
    return ImageError(f"{path} cannot be written: {error.strerror or error}")
