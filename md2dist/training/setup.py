"""Run set-up: opens the shards, plans the batches, finds the checkpoint; all checked."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from md2dist.config import Config, DataConfig
from md2dist.data.loading.order import GlobalOrder
from md2dist.data.loading.read_plan import check_cache
from md2dist.data.shards.compatibility import check_recipe
from md2dist.data.shards.dataset import ShardDataset
from md2dist.data.shards.manifest import MANIFEST_NAME
from md2dist.distributed.topology import Topology
from md2dist.errors import ConfigError, ShardError
from md2dist.evaluation.protocols import choose_protocol, validation_remedy
from md2dist.runs.checkpoint_folder import Checkpoint
from md2dist.runs.resume_state import GuardState, ResumeState
from md2dist.storage.open_store import is_url
from md2dist.training.batch_plan import BatchPlan, plan_batches
from md2dist.training.resolved_settings import resolve
from md2dist.training.resume_check import (
    check_method,
    check_order,
    find_resumable,
    keep_global_batch,
    owes_validation,
)
from md2dist.training.schedule import count_steps


class RunSetup(NamedTuple):
    """Checked parts of a run before its first step."""

    train_set: ShardDataset
    val_set: ShardDataset | None
    plan: BatchPlan
    order: GlobalOrder
    topology: Topology
    checkpoint: Checkpoint | None  # the run resumes here
    state: ResumeState  # at the first step of this start
    last_step: int  # smaller than first_step where the settings now end the run earlier
    needs_validation: bool  # an earlier start of the run was stopped before it

    @property
    def first_step(self) -> int:
        """Step at which this start begins."""
        return self.state.step


def set_up_run(config: Config, topology: Topology = Topology()) -> RunSetup:
    """Opens the shards, derives the batches and finds the checkpoint to resume from.

    Args:
        config: all settings.
        topology: this rank among the others; the ranks of a node share the check of the shards.

    Returns:
        The checked parts of the run. Nothing is written.

    Raises:
        ConfigError: if train_shards is not set, or the batch does not fit the number of ranks.
        ShardError: if shards are missing or packed differently.
        CheckpointError: if the run's checkpoints do not fit `checkpoint.resume` or the settings.
    """
    data = config.data
    if data.train_shards is None:
        raise ConfigError(
            "data.train_shards is not set; pass data.train_shards=DIR, a folder made by "
            "`md2dist pack --kitti-root KITTI --split SPLIT --output DIR`"
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
    train_set.check_files(topology.local_rank, topology.node_size)
    check_cache(train_set, data.window_shards)
    val_set = _open_validation(config, topology)
    checkpoint = find_resumable(config)
    optim = keep_global_batch(config.optim, checkpoint)
    plan = plan_batches(optim, topology.world_size)
    order = GlobalOrder(
        train_set.manifest.shard_sizes,
        seed=config.seed,
        global_batch_size=plan.global_batch_size,
        window_shards=data.window_shards,
    )
    state = ResumeState(
        step=checkpoint.state.step if checkpoint else 0,
        seed=config.seed,
        global_batch_size=plan.global_batch_size,
        window_shards=data.window_shards,
        shard_digest=train_set.manifest.digest,
        train_split=train_set.manifest.recipe.split,
        train_drives=train_set.manifest.drives,
        zero_stage=config.deepspeed.zero_stage,
        world_size=topology.world_size,
        guard=checkpoint.state.guard if checkpoint else GuardState(),
        wandb_id=checkpoint.state.wandb_id if checkpoint else None,
        resolved=resolve(config, plan, topology.world_size),
    )
    if checkpoint is not None:
        check_order(checkpoint.state, state, config.log.run_dir)
        check_method(checkpoint, config)
    last_step = count_steps(optim, order.num_steps)
    return RunSetup(
        train_set=train_set,
        val_set=val_set,
        plan=plan,
        order=order,
        topology=topology._replace(grad_accum_steps=plan.grad_accum_steps),
        checkpoint=checkpoint,
        state=state,
        last_step=last_step,
        needs_validation=val_set is not None
        and owes_validation(checkpoint, order.num_steps, last_step),
    )


def agreed_values(setup: RunSetup) -> dict[str, Any]:
    """Returns the values that must be the same on all ranks, by name."""
    return {
        "checkpoint": setup.checkpoint and setup.checkpoint.folder.name,
        "first_step": setup.first_step,
        "last_step": setup.last_step,
        "needs_validation": setup.needs_validation,
        "train_shards": setup.train_set.manifest.digest,
        **setup.state.resolved,
    }


def _open_shards(folder: str, data: DataConfig) -> ShardDataset:
    return ShardDataset(folder, cache_dir=data.cache_dir, cache_gb=data.cache_gb)


def _open_validation(config: Config, topology: Topology) -> ShardDataset | None:
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
    val_set.check_files(topology.local_rank, topology.node_size)
    return val_set
