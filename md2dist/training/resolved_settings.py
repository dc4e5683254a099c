"""Resolved settings: the values that `auto` and null take at a start."""

from typing import Any

from md2dist.config import Config, dump_config
from md2dist.networks.precision import choose_dtype, name_dtype
from md2dist.training.batch_plan import BatchPlan


def resolve(config: Config, plan: BatchPlan, world_size: int) -> dict[str, Any]:
    """Returns the values that `auto` and null resolve to.

    They are kept beside the settings, not in their place: when another machine or another number of
    ranks resumes or evaluates the run, they are resolved again.

    Args:
        config: all settings.
        plan: the batch sizes.
        world_size: number of ranks.

    Returns:
        Plain values by the names of the settings, and the number of ranks.
    """
    return {
        "precision.dtype": name_dtype(choose_dtype(config.precision.dtype)),
        "optim.global_batch_size": plan.global_batch_size,
        "optim.grad_accum_steps": plan.grad_accum_steps,
        "ranks": world_size,
    }


def annotate(config: Config, resolved: dict[str, Any]) -> str:
    """Returns all settings as YAML; a comment on the first line holds the resolved values."""
    heading = f"# resolved at the last start: {describe(resolved)}\n"
    return heading + dump_config(config)


def describe(resolved: dict[str, Any]) -> str:
    """Formats resolved values on one line."""
    return " ".join(f"{name}={value}" for name, value in resolved.items())
