"""The learning rate and the length of a run, as functions of the settings and the position."""

from md2dist.config import OptimConfig


def learning_rate(optim: OptimConfig, epoch: int) -> float:
    """Gives the learning rate of an epoch; nothing of it is ever restored from a checkpoint.

    Args:
        optim: `lr` holds for the first `lr_drop_epoch` epochs, then `lr` x `lr_drop_factor`.
        epoch: counted from 0.

    Returns:
        The rate for every step of the epoch.

    Source: Godard et al., ICCV 2019, section 4: 1e-4 for 15 epochs, then 1e-5.
    """
    return optim.lr * (optim.lr_drop_factor if epoch >= optim.lr_drop_epoch else 1.0)


def count_steps(optim: OptimConfig, steps_per_epoch: int) -> int:
    """Gives the number of optimizer steps of the whole run."""
    steps = optim.num_epochs * steps_per_epoch
    return steps if optim.max_steps is None else min(steps, optim.max_steps)
