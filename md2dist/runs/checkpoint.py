"""Saving and loading of checkpoints, by all ranks together.

A checkpoint is written under a hidden name and published when it is whole.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from md2dist.distributed.agreement import raise_on_all_ranks
from md2dist.distributed.world import World, barrier
from md2dist.errors import CheckpointError
from md2dist.runs.checkpoint_folder import name_of, publish_checkpoint

_PARTIAL = ".partial-"


def save_checkpoint(
    engine: Any, folder: Path, facts: dict[str, Any], config_text: str, keep: int, world: World
) -> Path:
    """Saves the engine's weights and optimizer with the facts of the run; all ranks call it.

    Args:
        engine: a DeepSpeed engine.
        folder: the run's `checkpoints` folder.
        facts: plain values that a resume needs; at least `step`.
        config_text: the run's resolved settings, kept inside.
        keep: number of newest checkpoints that stay, beside the best one.
        world: this process.

    Returns:
        The folder of the new checkpoint.

    Raises:
        CheckpointError: on all ranks, if the disk refuses on any of them; what was there before is
            still there, and nothing half-written.
    """
    partial = folder / (_PARTIAL + name_of(facts["step"]))
    try:
        with _writing(folder, world):
            if world.is_main:
                for left in folder.glob(f"{_PARTIAL}*"):  # by a life that ended while it saved
                    shutil.rmtree(left, ignore_errors=True)
                partial.mkdir(parents=True)
        with _writing(folder, world):
            _save_states(engine, partial, facts)
        with _writing(folder, world):
            if world.is_main:
                _check_parts(partial, facts)
                (partial / "config.yaml").write_text(config_text)
                publish_checkpoint(partial, facts, keep)
    except CheckpointError:
        if world.is_main:
            shutil.rmtree(partial, ignore_errors=True)
        barrier()
        raise
    return folder / name_of(facts["step"])


def load_checkpoint(engine: Any, checkpoint: Path) -> None:
    """Loads weights, buffers and optimizer state into an engine; all ranks call it.

    Raises:
        CheckpointError: if DeepSpeed finds nothing there (it would go on with random weights).
    """
    path, _ = engine.load_checkpoint(
        str(checkpoint.parent), tag=checkpoint.name, load_lr_scheduler_states=False
    )
    if path is None:
        raise CheckpointError(f"DeepSpeed could not load {checkpoint}")


@contextmanager
def _writing(folder: Path, world: World) -> Iterator[None]:
    """Makes an error of the disk on any rank an error of use on all."""
    with raise_on_all_ranks(world):
        try:
            yield
        except OSError as error:
            raise CheckpointError(
                f"no checkpoint could be saved in {folder}: {error}; is there room on the disk?"
            ) from error


def _save_states(engine: Any, partial: Path, facts: dict[str, Any]) -> None:
    writer = _Writer(engine.checkpoint_engine)
    engine.checkpoint_engine = writer
    try:
        engine.save_checkpoint(
            str(partial.parent), tag=partial.name, client_state=facts, save_latest=False
        )
    finally:
        engine.checkpoint_engine = writer.wrapped
    if writer.error is not None:
        raise writer.error


def _check_parts(partial: Path, facts: dict[str, Any]) -> None:
    """Refuses what lacks the file of a rank, as on a network file system that lags behind."""
    expected = facts["world_size"] if facts.get("zero_stage") else 0
    found = len(list(partial.glob("*_optim_states.pt")))
    if found < expected:
        raise OSError(f"the optimizer states of {expected - found} ranks have not arrived")


class _Writer:
    """DeepSpeed's writer, with errors held back until all ranks have passed DeepSpeed's barriers.

    Raised at once, an error on one rank would leave the others waiting in the next barrier.
    """

    def __init__(self, wrapped: Any):
        self.wrapped = wrapped
        self.error: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)

    def save(self, state_dict: Any, path: str) -> None:
        try:
            self.wrapped.save(state_dict, path)
        except OSError as error:
            self.error = error
        except RuntimeError as error:  # of torch's writer, which has no type of its own
            self.error = OSError(str(error).strip().partition("\n")[0])
