"""Checkpoints and resume states as a run leaves them, without training."""

from pathlib import Path

import torch

from md2dist.config import Config, dump_config
from md2dist.runs.checkpoint_manifest import write_manifest
from md2dist.runs.checkpoint_names import CONFIG_NAME, STATES_NAME, name_of
from md2dist.runs.resume_state import ResumeState


def write_checkpoint(
    folder: Path, state: ResumeState, module: dict | None = None, config: Config | None = None
) -> Path:
    """Writes a checkpoint with its manifest into a run's `checkpoints` folder.

    Args:
        folder: created if missing.
        state: its resume state.
        module: the weights.
        config: the settings.

    Returns:
        The folder of the checkpoint.
    """
    checkpoint = folder / name_of(state.step)
    checkpoint.mkdir(parents=True)
    states = {"module": module or {}, "optimizer": None, **state.to_json()}
    torch.save(states, checkpoint / STATES_NAME)
    (checkpoint / CONFIG_NAME).write_text(dump_config(config or Config()))
    write_manifest(checkpoint, state)
    return checkpoint


def flip_a_byte(path: Path, position: int) -> None:
    """Changes one bit of one byte of a file; a negative position counts from its end."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def resume_state(step: int, **changes) -> ResumeState:
    """Returns a state after `step` steps on one rank, with `changes` to its fields."""
    values = {
        "seed": 0,
        "global_batch_size": 4,
        "window_shards": 16,
        "shard_digest": "1f" * 32,
        "zero_stage": 0,
        "world_size": 1,
    }
    return ResumeState(step=step, **{**values, **changes})
