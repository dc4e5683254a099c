"""Run set-up: opens the shards, finds the checkpoint, plans the run; all checked."""

from typing import Any, NamedTuple

from md2dist.config import Config, DataConfig
from md2dist.data.loading.order import GlobalOrder
from md2dist.data.loading.read_plan import check_cache
from md2dist.data.shards.compatibility import check_recipe
from md2dist.data.shards.dataset import ShardDataset
from md2dist.distributed.topology import Topology
from md2dist.errors import ConfigError
from md2dist.runs.checkpoint_folder import Checkpoint
from md2dist.runs.resume_state import GuardState, ResumeState
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
from md2dist.training.validation.patience import describe_stop, resume_validations
from md2dist.training.validation.sets import ValidationSet, open_validation_sets


class RunSetup(NamedTuple):
    """Checked parts of a run before its first step."""

    train_set: ShardDataset
    val_sets: tuple[ValidationSet, ...]  # the first decides which checkpoint is best
    plan: BatchPlan
    order: GlobalOrder
    topology: Topology
    checkpoint: Checkpoint | None  # the run resumes here
    state: ResumeState  # at the first step of this start
    last_step: int  # smaller than first_step where the settings now end the run earlier
    needs_validation: bool  # an earlier start of the run was stopped before it
    early_end: str  # why early stopping has ended the run; empty if it has not

    @property
    def first_step(self) -> int:
        """Step at which this start begins."""
        return self.state.step


def set_up_run(config: Config, topology: Topology = Topology()) -> RunSetup:
    """Opens the shards, finds the checkpoint to resume from, and plans the run.

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
    train_set = open_train_set(config.data, topology)
    val_sets = open_validation_sets(config.data, topology)
    return plan_run(config, topology, train_set, val_sets, find_resumable(config))


def open_train_set(data: DataConfig, topology: Topology = Topology()) -> ShardDataset:
    """Opens the training shards and checks them; errors as for `set_up_run`."""
    if data.train_shards is None:
        raise ConfigError(
            "data.train_shards is not set; pass data.train_shards=DIR, a folder made by "
            "`md2dist pack --kitti-root KITTI --split SPLIT --output DIR`"
        )
    train_set = ShardDataset(data.train_shards, cache_dir=data.cache_dir, cache_gb=data.cache_gb)
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
    return train_set


def plan_run(
    config: Config,
    topology: Topology,
    train_set: ShardDataset,
    val_sets: tuple[ValidationSet, ...],
    checkpoint: Checkpoint | None,
) -> RunSetup:
    """Derives batches, order and length of a run, and checks them against its checkpoint.

    Args:
        config: all settings.
        topology: this rank among the others.
        train_set: the training shards.
        val_sets: the validation shards.
        checkpoint: the run resumes here; None: it starts.

    Returns:
        The checked parts of the run; errors as for `set_up_run`.
    """
    data, saving = config.data, config.checkpoint
    optim = keep_global_batch(config.optim, checkpoint)
    plan = plan_batches(optim, topology.world_size)
    order = GlobalOrder(
        train_set.manifest.shard_sizes,
        seed=config.seed,
        global_batch_size=plan.global_batch_size,
        window_shards=data.window_shards,
    )
    validations = resume_validations(
        checkpoint,
        val_sets[0].dataset if val_sets else None,
        use_flip_postprocess=saving.use_flip_postprocess,
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
        validations=validations,
        wandb_id=checkpoint.state.wandb_id if checkpoint else None,
        resolved=resolve(config, plan, topology.world_size),
    )
    if checkpoint is not None:
        check_order(checkpoint.state, state, config.log.run_dir)
        check_method(checkpoint, config)
    last_step = count_steps(optim, order.num_steps)
    every = saving.validate_every_steps
    needs_validation = bool(val_sets) and owes_validation(
        checkpoint, order.num_steps, last_step, every
    )
    # A validation that is still to come may be a new best.
    early_end = "" if needs_validation else describe_stop(validations, saving.patience)
    return RunSetup(
        train_set=train_set,
        val_sets=val_sets,
        plan=plan,
        order=order,
        topology=topology._replace(grad_accum_steps=plan.grad_accum_steps),
        checkpoint=checkpoint,
        state=state,
        last_step=min(last_step, state.step) if early_end else last_step,
        needs_validation=needs_validation,
        early_end=early_end,
    )


def agreed_values(setup: RunSetup) -> dict[str, Any]:
    """Returns the values that must be the same on all ranks, by name."""
    return {
        "checkpoint": setup.checkpoint and setup.checkpoint.folder.name,
        "first_step": setup.first_step,
        "last_step": setup.last_step,
        "needs_validation": setup.needs_validation,
        "train_shards": setup.train_set.manifest.digest,
        "val_shards": [val_set.dataset.manifest.digest for val_set in setup.val_sets],
        "validations": setup.state.validations,
        **setup.state.resolved,
    }
