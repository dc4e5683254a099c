"""Names in W&B, which groups its charts by the part before the slash: train, val, perf."""

import os

STEP = "step"  # the metric that all others are drawn over
ORIGIN = "origin"  # entry of the configuration beside the settings

_GROUPED = {
    "epoch": "train/epoch",
    "train/seconds_per_step": "perf/seconds_per_step",
    "train/samples_per_second": "perf/samples_per_second",
    "train/data_wait": "perf/data_wait",
}


def choose_project(setting: str, default: str) -> str:
    """Returns the project, which `WANDB_PROJECT` decides where the setting is the default."""
    return (os.environ.get("WANDB_PROJECT") or setting) if setting == default else setting


def group_name(name: str) -> str:
    """Returns the name in W&B of a metric, given by its name in metrics.jsonl.

    >>> group_name("train/data_wait"), group_name("val/abs_rel")
    ('perf/data_wait', 'val/abs_rel')
    """
    return _GROUPED.get(name, name)
