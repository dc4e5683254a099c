"""Schedule: learning rate and length of a run as functions of settings and position."""

from math import cos, pi

from md2dist.config import OptimConfig

PUBLISHED_BATCH_SIZE = 12


def learning_rate(
    optim: OptimConfig, global_batch_size: int, epoch: int, step: int, num_steps: int
) -> float:
    """Returns the learning rate of a step; it is never restored from a checkpoint.

    Args:
        optim: with the schedule step, the rate is `lr` for the first `lr_drop_epoch` epochs, then
            `lr` x `lr_drop_factor`; with `lr_drop_every`, it drops by that factor after each so
            many epochs. With cosine, it falls from `lr` after the warm-up to 0 after the last step,
            along half a period. With `lr_batch_size`, it is scaled by global batch /
            `lr_batch_size`; over the first `warmup_steps` steps it rises linearly.
        global_batch_size: samples per step.
        epoch: counted from 0.
        step: counted from the run's start.
        num_steps: length of the whole run, see `count_steps`.

    Source: Godard et al., ICCV 2019, section 4: 1e-4 for 15 epochs, then 1e-5. Goyal et al., 2017
        (arXiv 1706.02677), section 2: linear scaling and gradual warm-up for large batches.
        Loshchilov and Hutter, ICLR 2017 (arXiv 1608.03983), equation 5, without restarts.
    """
    if optim.schedule == "cosine":
        num_done = max(step - optim.warmup_steps, 0)
        rate = optim.lr * (1 + cos(pi * num_done / max(num_steps - optim.warmup_steps, 1))) / 2
    elif optim.lr_drop_every is None:
        rate = optim.lr * optim.lr_drop_factor ** int(epoch >= optim.lr_drop_epoch)
    else:
        rate = optim.lr * optim.lr_drop_factor ** (epoch // optim.lr_drop_every)
    if optim.lr_batch_size is not None:
        rate *= global_batch_size / optim.lr_batch_size
    if step < optim.warmup_steps:
        rate *= (step + 1) / optim.warmup_steps
    return rate


def advise_on_rate(optim: OptimConfig, global_batch_size: int, world_size: int) -> str | None:
    """Returns advice if the global batch exceeds the published one at the published rate."""
    is_published = optim.lr == OptimConfig.lr and optim.lr_batch_size is None
    if global_batch_size <= PUBLISHED_BATCH_SIZE or not is_published:
        return None
    share, remainder = divmod(PUBLISHED_BATCH_SIZE, world_size)
    smaller = (
        f", or optim.global_batch_size={PUBLISHED_BATCH_SIZE} optim.micro_batch_size={share}"
        if not remainder
        else ""
    )
    return (
        f"the global batch is {global_batch_size}, but optim.lr is tuned for "
        f"{PUBLISHED_BATCH_SIZE}: consider optim.lr_batch_size={PUBLISHED_BATCH_SIZE}, which "
        f"scales it{smaller}"
    )


def count_steps(optim: OptimConfig, steps_per_epoch: int) -> int:
    """Returns the number of optimizer steps of the whole run."""
    steps = optim.num_epochs * steps_per_epoch
    return steps if optim.max_steps is None else min(steps, optim.max_steps)


def is_due(step: int, every: int | None) -> bool:
    """Returns whether something that happens every so many steps happens after a step."""
    return every is not None and step % every == 0
