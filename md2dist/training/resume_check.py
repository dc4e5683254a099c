"""Resume rules: which checkpoint a run resumes from, and which settings may change on the way."""

import dataclasses
from pathlib import Path
from typing import Any

from md2dist.config import Config, OptimConfig, load_config, public_settings
from md2dist.config_merge import flatten
from md2dist.errors import CheckpointError, ConfigError
from md2dist.model import MonodepthModel
from md2dist.runs.checkpoint_folder import Checkpoint, find_checkpoint, read_validation
from md2dist.runs.resume_state import ResumeState
from md2dist.training.schedule import is_due
from md2dist.weights.run_folder import check_states, list_networks

# Settings of the method: a run in which one of them changes is another experiment.
_METHOD = (
    *("loss.", "data.frame_offsets", "data.use_stereo", "data.use_true_intrinsics"),
    *("network.encoder", "network.num_layers", "network.pose_type", "network.pose_num_layers"),
)


def find_resumable(config: Config) -> Checkpoint | None:
    """Finds the checkpoint that a run resumes from, as `checkpoint.resume` says.

    Returns:
        The newest undamaged checkpoint of `log.run_dir`; None for a fresh start.

    Raises:
        CheckpointError: if a checkpoint is required and there is none, or all are damaged.
    """
    run_dir = Path(config.log.run_dir)
    if config.checkpoint.resume == "never":
        return None
    found = find_checkpoint(run_dir / "checkpoints", check_states)
    if found is None and config.checkpoint.resume == "must":
        raise CheckpointError(
            f"checkpoint.resume=must, but {run_dir} has no checkpoint; check log.run_dir, or set "
            "checkpoint.resume=auto to start a new run"
        )
    return found


def keep_global_batch(optim: OptimConfig, checkpoint: Checkpoint | None) -> OptimConfig:
    """Returns the batch settings with the checkpoint's global batch where none is set.

    The samples of a step are part of the resumed state; accumulation compensates for another number
    of ranks.
    """
    if checkpoint is None or optim.global_batch_size is not None:
        return optim
    size = checkpoint.state.global_batch_size
    return dataclasses.replace(optim, global_batch_size=size, grad_accum_steps=None)


def owes_validation(
    checkpoint: Checkpoint | None, steps_per_epoch: int, last_step: int, every: int | None
) -> bool:
    """Whether a run was stopped before the validation of a checkpoint.

    Args:
        checkpoint: the run resumes here.
        steps_per_epoch: number of steps of an epoch, each of which ends with a validation.
        last_step: step at which the run ends, with a validation.
        every: steps between validations within epochs; None: there are none.
    """
    if checkpoint is None or checkpoint.state.step == 0:
        return False
    step = checkpoint.state.step
    is_end = step % steps_per_epoch == 0 or step >= last_step
    return (is_end or is_due(step, every)) and read_validation(checkpoint.folder) is None


def check_order(saved: ResumeState, now: ResumeState, run_dir: str) -> None:
    """Refuses to resume where the order of samples would change.

    Args:
        saved: the checkpoint's state.
        now: the state of this start.
        run_dir: the run's folder, for messages.

    Raises:
        CheckpointError: naming the first difference and the remedy.
    """
    for name, (before, after) in saved.differences(now).items():
        if name == "world_size":
            raise CheckpointError(
                f"the run in {run_dir} was saved by {before} ranks at ZeRO stage "
                f"{now.zero_stage} and cannot resume with {after}; use {before} ranks, or start a "
                f"new log.run_dir with network.init_from={run_dir}"
            )
        raise CheckpointError(
            f"the run in {run_dir} was started with {name}={before}, now it is {after}; restore "
            f"{name}={before}, or start a new log.run_dir with network.init_from={run_dir}"
        )


def check_method(checkpoint: Checkpoint, config: Config) -> None:
    """Refuses to continue one experiment with the settings of another.

    Args:
        checkpoint: the run resumes here; skipped if its `config.yaml` cannot be compared.
        config: the settings now; `checkpoint.resume=must` allows every change.

    Raises:
        CheckpointError: naming the first changed setting of the method, or of the initial weights,
            which a resumed run would ignore.
    """
    run_dir = config.log.run_dir
    if config.checkpoint.resume == "must":
        return
    try:
        changes = _find_changes(checkpoint.folder, config, {}, {})
    except ConfigError:
        return
    had_pose, has_pose = map(bool, changes.get("data.frame_offsets", (None, None)))
    if had_pose != has_pose or "loss.use_predictive_mask" in changes:
        return  # other networks: check_networks names the remedy
    for key, (before, now) in changes.items():
        if key.startswith(_METHOD) or _is_other_start(key, before, now):
            raise CheckpointError(
                f"the run in {run_dir} was started with {key}={before}, now it is {now}: set "
                "another log.run_dir for a new experiment, or checkpoint.resume=must to continue "
                "the old one with the new setting"
            )


def check_networks(model: MonodepthModel, checkpoint: Path) -> None:
    """Refuses to resume with other networks.

    Args:
        model: the model of this start.
        checkpoint: the checkpoint's folder.

    Raises:
        CheckpointError: naming the networks and the remedy.
        WeightsError: if the checkpoint's weights cannot be read.
    """
    before, now = list_networks(checkpoint), [name for name, _ in model.named_children()]
    if set(before) == set(now):
        return
    run_dir = checkpoint.parent.parent
    start = f" with network.init_from={run_dir}" if set(now) <= set(before) else ""
    raise CheckpointError(
        f"the run in {run_dir} was started with the networks {', '.join(before)}, now they are "
        f"{', '.join(now)}; restore data.frame_offsets, network.pose_type and "
        f"loss.use_predictive_mask, or start a new log.run_dir{start}"
    )


def describe_changes(checkpoint: Checkpoint, config: Config, resolved: dict[str, Any]) -> list[str]:
    """Lists the settings that have changed since a checkpoint was saved.

    Args:
        checkpoint: the run resumes here.
        config: the settings now.
        resolved: what `auto` and null resolve to now, by the names of the settings; compared, like
            the checkpoint's, in place of the settings.

    Returns:
        For each: "key: before -> now", in the order of the schema. A single line with the reason if
        the checkpoint's settings cannot be read, or hold a key that this version does not know.
    """
    try:
        changes = _find_changes(checkpoint.folder, config, checkpoint.state.resolved, resolved)
    except ConfigError as error:
        return [f"the checkpoint's settings cannot be compared: {error}"]
    return [f"{key}: {before} -> {now}" for key, (before, now) in changes.items()]


def _find_changes(
    checkpoint: Path, config: Config, resolved_before: dict[str, Any], resolved_now: dict[str, Any]
) -> dict[str, tuple[Any, Any]]:
    before = flatten(public_settings(load_config([checkpoint / "config.yaml"])))
    now = flatten(public_settings(config))
    before |= resolved_before
    now |= {key: value for key, value in resolved_now.items() if key in resolved_before}
    return {key: (before[key], now[key]) for key in now if before[key] != now[key]}


def _is_other_start(key: str, before: Any, now: Any) -> bool:
    """Whether a change requests other initial weights; the same file may be at another path."""
    if key == "network.init_from":
        return now is not None and (before is None or Path(before) != Path(now))
    if key == "network.init_networks":
        return bool(now) and set(now) != set(before)
    return key == "network.weights" and "scratch" in (before, now)
