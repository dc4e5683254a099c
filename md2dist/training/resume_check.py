"""Whether a run may go on from its checkpoint, and which of its settings have changed since."""

import dataclasses
from pathlib import Path
from typing import Any

from md2dist.config import Config, load_config
from md2dist.errors import CheckpointError, ConfigError
from md2dist.training.batch_plan import BatchPlan

# What is learned, from which views: who changes one of these has another experiment in mind.
_METHOD = ("loss.", "data.frame_offsets", "data.use_stereo", "data.use_true_intrinsics")


def check_continuity(
    config: Config, facts: dict[str, Any], plan: BatchPlan, shard_digest: str, world_size: int
) -> None:
    """Refuses to go on where the order of samples would not be the one that was begun.

    Args:
        config: the settings now.
        facts: what the checkpoint knows.
        plan: the batch sizes now.
        shard_digest: of the training shards now.
        world_size: number of ranks now.

    Raises:
        CheckpointError: naming what differs, and the remedy.
    """
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


def check_method(saved: Path, config: Config) -> None:
    """Refuses to take one experiment for the next step of another; `checkpoint.resume=must` may.

    Args:
        saved: the checkpoint's `config.yaml`; one that cannot be compared is passed over.
        config: the settings now.

    Raises:
        CheckpointError: naming the first setting that has changed, of the method, or of the first
            weights, which nobody would look at.
    """
    run_dir = config.log.run_dir
    if config.checkpoint.resume == "must":
        return
    try:
        changes = _find_changes(saved, config, {}, {})
    except ConfigError:
        return
    had_pose, has_pose = map(bool, changes.get("data.frame_offsets", (None, None)))
    if had_pose != has_pose or "loss.use_predictive_mask" in changes:
        return  # other networks: whoever loads the weights has remedies for that
    for key, (before, now) in changes.items():
        if key.startswith(_METHOD) or _is_other_start(key, before, now):
            raise CheckpointError(
                f"the run in {run_dir} was begun with {key}={before}, now it is {now}: give a new "
                "experiment a log.run_dir of its own, or set checkpoint.resume=must to go on with "
                "the old one all the same"
            )


def describe_changes(
    saved: Path, config: Config, resolved_before: dict[str, Any], resolved_now: dict[str, Any]
) -> list[str]:
    """Lists the settings in which a run differs from the one that a checkpoint was saved by.

    Args:
        saved: the checkpoint's `config.yaml`.
        config: the settings now.
        resolved_before: what the checkpoint knows of settings that were left open, by their names;
            empty in those of earlier versions.
        resolved_now: the same of this start. Both are compared in place of the settings.

    Returns:
        For each: "key: before -> now", in the order of the schema. One line that says why, if the
        settings of before cannot be read, or hold a key that this version does not know.
    """
    try:
        changes = _find_changes(saved, config, resolved_before, resolved_now)
    except ConfigError as error:
        return [f"the settings of before cannot be compared: {error}"]
    return [f"{key}: {before} -> {now}" for key, (before, now) in changes.items()]


def _find_changes(
    saved: Path, config: Config, resolved_before: dict[str, Any], resolved_now: dict[str, Any]
) -> dict[str, tuple[Any, Any]]:
    before = _flatten(dataclasses.asdict(load_config([saved])))
    now = _flatten(dataclasses.asdict(config))
    before |= resolved_before
    now |= {key: value for key, value in resolved_now.items() if key in resolved_before}
    return {key: (before[key], now[key]) for key in now if before[key] != now[key]}


def _is_other_start(key: str, before: Any, now: Any) -> bool:
    """Whether a change asks for other first weights; the same may lie at another path."""
    if key == "network.init_from":
        return now is not None and (before is None or Path(before) != Path(now))
    return key == "network.weights" and "scratch" in (before, now)


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        nested = isinstance(value, dict)
        flat |= _flatten(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return flat
