"""Checkpoints and resume states as a run leaves them, without training."""

from pathlib import Path

import torch

from md2dist.config import Config, dump_config
from md2dist.runs.checkpoint_manifest import write_manifest
from md2dist.runs.checkpoint_names import CONFIG_NAME, STATES_NAME, name_of
from md2dist.runs.resume_state import ResumeState
from md2dist.weights.optimizer_state import partition_name


def write_checkpoint(
    folder: Path, state: ResumeState, module: dict | None = None, config: Config | None = None
) -> Path:
    """Writes a checkpoint with its manifest into a run's `checkpoints` folder.

    Args:
        folder: created if missing.
        state: its resume state.
        module: the weights; none of them has moments in the optimizer's state.
        config: the settings.

    Returns:
        The folder of the checkpoint.
    """
    checkpoint = folder / name_of(state.step)
    checkpoint.mkdir(parents=True)
    states = {"module": module or {}, "buffer_names": [], "optimizer": {"state": {}}}
    states |= state.to_json()
    torch.save(states, checkpoint / STATES_NAME)
    for rank in range(state.world_size if state.zero_stage else 0):
        torch.save(partition(rank, state.world_size), checkpoint / partition_name(rank))
    (checkpoint / CONFIG_NAME).write_text(dump_config(config or Config()))
    write_manifest(checkpoint, state)
    return checkpoint


def adam_state(*shapes: tuple[int, ...]) -> dict:
    """Returns the state of Adam after a step, for parameters of these shapes."""
    moments = {"exp_avg": torch.zeros, "exp_avg_sq": torch.ones}
    return {
        "state": {
            number: {"step": torch.tensor(1.0)} | {name: fill(s) for name, fill in moments.items()}
            for number, s in enumerate(shapes)
        },
        "param_groups": [{"lr": 1e-4, "params": list(range(len(shapes)))}],
    }


def partition(rank: int, num_ranks: int, num_weights: int = 0) -> dict:
    """Returns what a rank writes at ZeRO stage 1 or 2; the last part is padded."""
    size = -(-num_weights // num_ranks)
    padding = size * num_ranks - num_weights if rank == num_ranks - 1 else 0
    content = {
        "base_optimizer_state": adam_state((size,)),
        "single_partition_of_fp32_groups": [torch.ones(size - padding)],
        "group_paddings": [padding],
    }
    return {"optimizer_state_dict": content}


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
