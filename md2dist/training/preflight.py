"""Everything that can be found wrong before the first step, found before it."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from md2dist.config import Config
from md2dist.data.order import GlobalOrder
from md2dist.data.shard_format import check_recipe
from md2dist.data.shard_reader import ShardDataset
from md2dist.errors import CheckpointError, ConfigError, ShardError
from md2dist.training.batch_plan import BatchPlan, plan_batches
from md2dist.training.checkpoint import find_checkpoint
from md2dist.training.schedule import count_steps

logger = logging.getLogger(__name__)


class Preparation(NamedTuple):
    """What a run needs before its first step, checked."""

    train_set: ShardDataset
    val_set: ShardDataset | None
    plan: BatchPlan
    order: GlobalOrder
    checkpoint: Path | None  # where the run goes on
    facts: dict[str, Any]  # what that checkpoint knows; empty at a fresh start
    first_step: int
    last_step: int


def prepare(config: Config, world_size: int) -> Preparation:
    """Opens the shards, derives the batches and finds the checkpoint to go on from.

    Args:
        config: all settings.
        world_size: number of ranks.

    Returns:
        The checked parts of the run. Nothing is written.

    Raises:
        ConfigError: where train_shards is not set, or the batch does not fit the ranks.
        ShardError: where shards are missing or packed otherwise.
        CheckpointError: where the run's checkpoints do not fit `checkpoint.resume` or the settings.
    """
    data = config.data
    if data.train_shards is None:
        raise ConfigError(
            "data.train_shards is not set; pass data.train_shards=DIR, a folder made by "
            "`python shard_tools/make_shards.py --kitti-root KITTI --split SPLIT --output DIR`"
        )
    train_set = ShardDataset(data.train_shards)
    check_recipe(
        train_set.manifest,
        data.train_shards,
        height=data.height,
        width=data.width,
        frame_offsets=data.frame_offsets,
        use_stereo=data.use_stereo,
    )
    train_set.check_files()
    val_set = _open_validation(config)
    found = _find_resumable(config)
    checkpoint, facts = found if found else (None, {})
    optim = config.optim
    if facts and optim.global_batch_size is None:
        # The samples of a step are part of what is resumed; accumulation makes up for the ranks.
        optim = replace(optim, global_batch_size=facts["global_batch_size"], grad_accum_steps=None)
    plan = plan_batches(optim, world_size)
    order = GlobalOrder(
        train_set.manifest.shard_sizes,
        seed=config.seed,
        global_batch_size=plan.global_batch_size,
        window_shards=data.window_shards,
    )
    if facts:
        _check_continuity(config, facts, plan, train_set.manifest.digest, world_size)
    return Preparation(
        train_set=train_set,
        val_set=val_set,
        plan=plan,
        order=order,
        checkpoint=checkpoint,
        facts=facts,
        first_step=facts.get("step", 0),
        last_step=count_steps(optim, order.num_steps),
    )


def facts_of(prepared: Preparation) -> dict[str, Any]:
    """Gives what all ranks must have found alike."""
    return {
        "checkpoint": prepared.checkpoint and prepared.checkpoint.name,
        "first_step": prepared.first_step,
        "last_step": prepared.last_step,
        "train_shards": prepared.train_set.manifest.digest,
    }


def _open_validation(config: Config) -> ShardDataset | None:
    data = config.data
    if data.val_shards is None:
        return None
    val_set = ShardDataset(data.val_shards)
    check_recipe(
        val_set.manifest,
        data.val_shards,
        height=data.height,
        width=data.width,
        frame_offsets=(),
        use_stereo=False,
    )
    if val_set.manifest.recipe.ground_truth == "none":
        raise ShardError(
            f"the validation shards in {data.val_shards} carry no ground truth; pack them with "
            "--ground-truth velodyne, or leave data.val_shards null"
        )
    val_set.check_files()
    return val_set


def _find_resumable(config: Config) -> tuple[Path, dict[str, Any]] | None:
    run_dir = Path(config.log.run_dir)
    if config.checkpoint.resume == "never":
        return None
    found = find_checkpoint(run_dir / "checkpoints")
    if found is None and config.checkpoint.resume == "must":
        raise CheckpointError(
            f"checkpoint.resume=must, but {run_dir} has no checkpoint; check log.run_dir, or set "
            "checkpoint.resume=auto to start a new run"
        )
    return found


def _check_continuity(
    config: Config, facts: dict[str, Any], plan: BatchPlan, shard_digest: str, world_size: int
) -> None:
    """Refuses to go on where the order of samples would not be the one that was begun."""
    run_dir = config.log.run_dir
    now = {
        "seed": config.seed,
        "global_batch_size": plan.global_batch_size,
        "window_shards": config.data.window_shards,
        "shard_digest": shard_digest,
        "zero_stage": config.deepspeed.zero_stage,
    }
    for key, value in now.items():
        if facts.get(key) != value:
            raise CheckpointError(
                f"the run in {run_dir} was begun with {key}={facts.get(key)}, now it is {value}; "
                "go on with the former, or start a new log.run_dir with network.init_from="
                f"{run_dir}"
            )
    if config.deepspeed.zero_stage > 0 and facts["world_size"] != world_size:
        raise CheckpointError(
            f"the run in {run_dir} was saved by {facts['world_size']} ranks at ZeRO stage "
            f"{config.deepspeed.zero_stage} and cannot go on with {world_size}; use as many ranks, "
            f"or start a new log.run_dir with network.init_from={run_dir}"
        )
