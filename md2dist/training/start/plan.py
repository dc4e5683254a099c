"""Plan of a run: samples, learning rate, validations and checkpoints, with the disk they take."""

from itertools import groupby
from pathlib import Path

import torch

from md2dist.config import Config
from md2dist.errors import MachineLimitError
from md2dist.machine_limits import check_disk
from md2dist.runs.checkpoint_names import list_checkpoints
from md2dist.training.schedule import learning_rate
from md2dist.training.setup import RunSetup

_BYTES = 4  # of a float32


def describe_plan(config: Config, setup: RunSetup, model: torch.nn.Module) -> dict[str, str]:
    """Describes what a run will do, by subject.

    Args:
        config: all settings.
        setup: the checked parts of the run.
        model: of the run, for the size of its checkpoints.
    """
    order, saves = setup.order, list_saves(config, setup)
    epochs = -(-setup.last_step // order.num_steps)
    size = checkpoint_bytes(model, config.deepspeed.zero_stage)
    at_once = count_at_once(config, setup)
    return {
        "samples": f"{order.num_samples:,} training samples; an epoch has {order.num_steps:,} "
        f"steps of {order.global_batch_size} and leaves out {order.num_dropped}",
        "steps": f"{setup.first_step:,} to {setup.last_step:,}; the run has {epochs} epochs",
        "rate": describe_rates(config, setup),
        "validations": _describe_validations(config, setup),
        "checkpoints": f"{len(saves):,} of {size / 1e6:,.0f} MB each, up to {at_once} at a time: "
        f"{at_once * size / 1e6:,.0f} MB",
    }


def describe_rates(config: Config, setup: RunSetup) -> str:
    """Describes the learning rate over the epochs of the whole run."""
    optim, num_steps, last_step = config.optim, setup.order.num_steps, setup.last_step
    warmup = f", rising to it over {optim.warmup_steps} steps" if optim.warmup_steps else ""
    epochs = range(max(-(-last_step // num_steps), 1))

    def rate(epoch: int) -> float:
        """Returns the rate of an epoch after the warm-up."""
        size, step = setup.plan.global_batch_size, max(epoch * num_steps, optim.warmup_steps)
        return learning_rate(optim, size, epoch, step, last_step)

    if optim.schedule == "cosine":
        return f"{rate(0):.3g}{warmup}, falling along a cosine to 0 after step {last_step}"
    parts = []
    for value, group in groupby(epochs, rate):
        first, *others = group
        last = others[-1] if others else first
        parts.append(f"{value:.3g} in epoch {first}" + f" to {last}" * (last > first))
    return f"{parts[0]}{warmup}" + "".join(f", {part}" for part in parts[1:])


def list_saves(config: Config, setup: RunSetup) -> list[int]:
    """Lists the steps after which this start saves a checkpoint, if it is not stopped."""
    schedule, first, last = config.checkpoint, setup.first_step, setup.last_step
    periods = (setup.order.num_steps, schedule.every_steps, schedule.validate_every_steps)
    steps = {last} if last > first else set()
    for every in filter(None, periods):
        steps.update(range((first // every + 1) * every, last + 1, every))
    return sorted(steps)


def count_at_once(config: Config, setup: RunSetup) -> int:
    """Counts the checkpoints that are on the disk at the same time, at most."""
    schedule, num_saves = config.checkpoint, len(list_saves(config, setup))
    kept = schedule.keep + len(schedule.keep_epochs) + bool(setup.val_sets)
    return num_saves if num_saves <= kept else kept + 1  # one is written before one is removed


def checkpoint_bytes(model: torch.nn.Module, zero_stage: int) -> int:
    """Returns about how many bytes a checkpoint takes.

    Args:
        model: of the run.
        zero_stage: at stages 1 and 2, the optimizer has a copy of the weights.
    """
    weights = sum(weight.numel() for weight in model.parameters())
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    copies = 4 if zero_stage else 3  # the weights, two moments of Adam
    return copies * weights * _BYTES + buffers


def check_space(config: Config, setup: RunSetup, model: torch.nn.Module) -> str:
    """Checks that the disk has room for the run's checkpoints.

    Returns:
        Advice if it has not enough for all that are kept; empty if it has.

    Raises:
        MachineLimitError: if it has no room for one.
    """
    folder = Path(config.log.run_dir, "checkpoints")
    at_once = count_at_once(config, setup)
    if at_once == 0:
        return ""
    size = checkpoint_bytes(model, config.deepspeed.zero_stage)
    check_disk(folder, size, "a checkpoint")
    num_old = 0 if config.checkpoint.resume == "never" else len(list_checkpoints(folder))
    num_new = max(at_once - num_old, 1)
    try:
        check_disk(folder, num_new * size, f"{num_new} checkpoints")
    except MachineLimitError as error:
        return f"{error}, or lower checkpoint.keep"
    return ""


def _describe_validations(config: Config, setup: RunSetup) -> str:
    if not setup.val_sets:
        return "none; data.val_shards names shards for them"
    sets = ", ".join(f"{name} ({len(dataset):,} images)" for name, dataset in setup.val_sets)
    every = config.checkpoint.validate_every_steps
    schedule = "after each epoch" + f" and every {every} steps" * (every is not None)
    first = f"; {setup.val_sets[0].name} decides which is best" * (len(setup.val_sets) > 1)
    patience = config.checkpoint.patience
    end = f"; {patience} in a row without a new best end the run" * (patience is not None)
    return f"{schedule}, on {sets}{first}{end}"
