"""Everything that can be found wrong before the first step, found before it."""

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from md2dist.config import Config, DataConfig
from md2dist.data.loading.order import GlobalOrder
from md2dist.data.loading.read_plan import check_cache
from md2dist.data.shards.compatibility import check_recipe
from md2dist.data.shards.dataset import ShardDataset
from md2dist.data.shards.manifest import MANIFEST_NAME
from md2dist.errors import CheckpointError, ConfigError, ShardError
from md2dist.evaluation.protocols import choose_protocol, validation_remedy
from md2dist.runs.checkpoint_folder import find_checkpoint, read_validation
from md2dist.storage.open_store import is_url
from md2dist.training.batch_plan import BatchPlan, plan_batches
from md2dist.training.resolved_settings import resolve
from md2dist.training.resume_check import check_continuity, check_method
from md2dist.training.schedule import count_steps

logger = logging.getLogger(__name__)


class RunSetup(NamedTuple):
    """What a run needs before its first step, checked."""

    train_set: ShardDataset
    val_set: ShardDataset | None
    plan: BatchPlan
    order: GlobalOrder
    checkpoint: Path | None  # where the run goes on
    facts: dict[str, Any]  # what that checkpoint knows; empty at a fresh start
    resolved: dict[str, Any]  # what the settings leave open, decided
    first_step: int
    last_step: int  # smaller than first_step where the settings now end the run earlier
    needs_validation: bool  # an earlier life of the run did not come to it


def set_up_run(config: Config, world_size: int, part: int = 0, num_parts: int = 1) -> RunSetup:
    """Opens the shards, derives the batches and finds the checkpoint to go on from.

    Args:
        config: all settings.
        world_size: number of ranks.
        part: which of the shards this process looks for, from 0: those of a node share this.
        num_parts: number of processes on this node.

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
    train_set = _open_shards(data.train_shards, data)
    check_recipe(
        train_set.manifest,
        data.train_shards,
        height=data.height,
        width=data.width,
        frame_offsets=data.frame_offsets,
        use_stereo=data.use_stereo,
    )
    train_set.check_files(part, num_parts)
    check_cache(train_set, data.window_shards)
    val_set = _open_validation(config, part, num_parts)
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
    if checkpoint is not None:
        check_continuity(config, facts, plan, train_set.manifest.digest, world_size)
        check_method(checkpoint / "config.yaml", config)
    first_step, last_step = facts.get("step", 0), count_steps(optim, order.num_steps)
    return RunSetup(
        train_set=train_set,
        val_set=val_set,
        plan=plan,
        order=order,
        checkpoint=checkpoint,
        facts=facts,
        resolved=resolve(config, plan, world_size),
        first_step=first_step,
        last_step=last_step,
        needs_validation=val_set is not None
        and checkpoint is not None
        and first_step > 0
        and (first_step % order.num_steps == 0 or first_step >= last_step)
        and read_validation(checkpoint) is None,
    )


def agreed_values(setup: RunSetup) -> dict[str, Any]:
    """Gives what all ranks must have found alike."""
    return {
        "checkpoint": setup.checkpoint and setup.checkpoint.name,
        "first_step": setup.first_step,
        "last_step": setup.last_step,
        "needs_validation": setup.needs_validation,
        "train_shards": setup.train_set.manifest.digest,
        **setup.resolved,
    }


def _open_shards(place: str, data: DataConfig) -> ShardDataset:
    return ShardDataset(place, cache_dir=data.cache_dir, cache_gb=data.cache_gb)


def _open_validation(config: Config, part: int, num_parts: int) -> ShardDataset | None:
    data = config.data
    if data.val_shards is None:
        return None
    remedy = validation_remedy(data.height, data.width)
    manifest = Path(data.val_shards, MANIFEST_NAME)
    if not is_url(data.val_shards) and not os.access(manifest, os.R_OK):
        raise ShardError(f"data.val_shards: {manifest} cannot be read; {remedy}")
    val_set = _open_shards(data.val_shards, data)
    check_recipe(
        val_set.manifest,
        data.val_shards,
        height=data.height,
        width=data.width,
        frame_offsets=(),
        use_stereo=False,
    )
    choose_protocol(val_set.manifest.recipe, data.val_shards, remedy=remedy)
    val_set.check_files(part, num_parts)
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
