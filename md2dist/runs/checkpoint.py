"""Saving and loading of checkpoints, by all ranks together.

A checkpoint is written under a hidden name and published once it is complete.
"""

import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from md2dist.distributed.agreement import raise_on_all_ranks
from md2dist.distributed.world import World, barrier
from md2dist.errors import CheckpointError
from md2dist.runs.checkpoint_folder import publish_checkpoint
from md2dist.runs.checkpoint_names import CONFIG_NAME, name_of, partial_path, remove_partials
from md2dist.runs.resume_state import ResumeState


class CheckpointEngine(Protocol):
    """The part of a DeepSpeed engine that saves and loads."""

    checkpoint_engine: Any  # writes a state dictionary to a path, and reads it

    def save_checkpoint(
        self, save_dir: str, tag: str, client_state: dict[str, Any], save_latest: bool
    ) -> Any:
        """Writes weights, buffers, optimizer state and `client_state` into save_dir/tag."""

    def load_checkpoint(
        self, load_dir: str, tag: str, load_lr_scheduler_states: bool
    ) -> tuple[str | None, Any]:
        """Loads them; returns the path, or None if there is no checkpoint."""
        ...


def save_checkpoint(
    engine: CheckpointEngine,
    folder: Path,
    state: ResumeState,
    config_text: str,
    keep: int,
    world: World,
    kept_steps: Collection[int] = (),
) -> Path:
    """Saves the engine's weights and optimizer with the resume state; all ranks call it.

    Args:
        engine: a DeepSpeed engine.
        folder: the run's `checkpoints` folder.
        state: the resume state.
        config_text: the run's settings, saved as `config.yaml`.
        keep: number of newest checkpoints to keep, beside the best one.
        world: this process.
        kept_steps: steps whose checkpoints are kept in any case.

    Returns:
        The folder of the new checkpoint.

    Raises:
        CheckpointError: on all ranks, if writing fails on any of them; earlier checkpoints remain,
            and nothing half-written.
    """
    partial = partial_path(folder, state.step)
    try:
        with _writing(folder, world):
            if world.is_main:
                remove_partials(folder)
                partial.mkdir(parents=True)
        with _writing(folder, world):
            _save_states(engine, partial, state)
        with _writing(folder, world):
            if world.is_main:
                _check_parts(partial, state)
                (partial / CONFIG_NAME).write_text(config_text, encoding="utf-8")
                publish_checkpoint(partial, state, keep, kept_steps)
    except CheckpointError:
        if world.is_main:
            shutil.rmtree(partial, ignore_errors=True)
        barrier()
        raise
    return folder / name_of(state.step)


def load_checkpoint(
    engine: CheckpointEngine, checkpoint: Path, contents: Mapping[str, dict[str, Any]]
) -> None:
    """Loads weights, buffers and optimizer state into an engine; all ranks call it.

    Args:
        engine: a DeepSpeed engine. It would unpickle its files, and execute what is in them: so it
            gets their contents instead.
        checkpoint: the checkpoint's folder.
        contents: contents of the files that this rank needs, by name.

    Raises:
        CheckpointError: if DeepSpeed finds no checkpoint, in which case it would continue with
            random weights, or requests another file.
    """
    reader = _Reader(engine.checkpoint_engine, contents)
    engine.checkpoint_engine = reader
    try:
        path, _ = engine.load_checkpoint(
            str(checkpoint.parent), tag=checkpoint.name, load_lr_scheduler_states=False
        )
    finally:
        engine.checkpoint_engine = reader.wrapped
    if path is None:
        raise CheckpointError(f"DeepSpeed could not load {checkpoint}")


@contextmanager
def _writing(folder: Path, world: World) -> Iterator[None]:
    """Turns a failed write on any rank into a CheckpointError on all."""
    with raise_on_all_ranks(world):
        try:
            yield
        except OSError as error:
            raise CheckpointError(
                f"no checkpoint could be saved in {folder}: {error}; check its free space"
            ) from error


def _save_states(engine: CheckpointEngine, partial: Path, state: ResumeState) -> None:
    writer = _Writer(engine.checkpoint_engine)
    engine.checkpoint_engine = writer
    try:
        engine.save_checkpoint(
            str(partial.parent),
            tag=partial.name,
            client_state=state.to_json(),
            save_latest=False,
        )
    finally:
        engine.checkpoint_engine = writer.wrapped
    if writer.error is not None:
        raise writer.error


def _check_parts(partial: Path, state: ResumeState) -> None:
    """Raises if a rank's file is missing, as on a network file system that lags behind."""
    expected = state.world_size if state.zero_stage else 0
    found = len(list(partial.glob("*_optim_states.pt")))
    if found < expected:
        raise OSError(f"the optimizer states of {expected - found} ranks have not arrived")


class _Reader:
    """Wraps DeepSpeed's reader; hands out contents that have been read and checked."""

    def __init__(self, wrapped: Any, contents: Mapping[str, dict[str, Any]]):
        self.wrapped = wrapped
        self._contents = contents

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)

    def load(self, path: str, map_location: Any = None) -> dict[str, Any]:
        if (name := Path(path).name) not in self._contents:
            raise CheckpointError(f"DeepSpeed requests {path}, which has not been checked")
        return dict(self._contents[name])


class _Writer:
    """Wraps DeepSpeed's writer; errors are deferred until all ranks have passed its barriers.

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
        except RuntimeError as error:  # torch's writer has no exception type of its own
            self.error = OSError(str(error).strip().partition("\n")[0])
