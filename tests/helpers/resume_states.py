"""Resume states with example values."""

from md2dist.runs.resume_state import ResumeState


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
