"""Output of `--save-disparities`: one file that all ranks write while they score."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from md2dist.data.shards.dataset import ShardDataset
from md2dist.distributed.agreement import exit_on_all_ranks
from md2dist.distributed.world import World, gather_over_ranks
from md2dist.errors import ShardError
from md2dist.evaluation.depth import SamplePredictor
from md2dist.evaluation.disparity_file import (
    DisparityWriter,
    create_disparities,
    publish_disparities,
    shape_of,
)


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
