"""Dry run: everything that a start checks, and its plan; nothing is trained or written."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

from md2dist.config import Config, load_words
from md2dist.data.shards.dataset import ShardDataset
from md2dist.distributed.agreement import check_agreement
from md2dist.distributed.job import join_job
from md2dist.distributed.topology import Topology
from md2dist.distributed.world import World
from md2dist.errors import WeightsError
from md2dist.model import MonodepthModel
from md2dist.networks.precision import choose_dtype, name_dtype
from md2dist.networks.timm_encoder import TimmEncoder
from md2dist.runs.checkpoint_folder import Checkpoint
from md2dist.runs.run_dir import check_run_dir
from md2dist.runs.wandb.mode import choose_mode
from md2dist.storage.web import open_web
from md2dist.training.batch_plan import BatchPlan
from md2dist.training.loop import open_loader
from md2dist.training.resume_check import find_resumable
from md2dist.training.run import (
    AGREEMENT,
    advise_on_workers,
    build_model,
    check_limits,
    load_first_weights,
)
from md2dist.training.schedule import advise_on_rate, learning_rate
from md2dist.training.setup import RunSetup, agreed_values, open_train_set, plan_run
from md2dist.training.start.checklist import Advice, Checklist
from md2dist.training.start.environment import (
    check_connection,
    describe_device,
    describe_port,
    describe_slurm,
)
from md2dist.training.start.plan import check_space, describe_plan
from md2dist.training.start.timing import describe_times, time_steps
from md2dist.training.validation.sets import ValidationSet, open_validation_sets
from md2dist.weights import list_downloads

_PROBE_S = 10.0


def dry_run(arguments: Sequence[str], num_steps: int = 0) -> bool:
    """Checks a start together with the other ranks, and prints its plan.

    Args:
        arguments: configuration files and `key=value` overrides.
        num_steps: number of training steps to time, of which nothing is kept.

    Returns:
        Whether all checks have passed.
    """
    with join_job() as (world, watchdog):
        if not world.is_main:  # the main rank prints for all
            logging.getLogger("md2dist").setLevel(logging.CRITICAL)
        checks = Checklist(world)
        check_environment(checks, world)
        check_start(checks, arguments, world)
        values = checks.values
        if "batch" in values and "model" in values:
            config, setup, model = values["settings"], values["batch"], values["model"]
            for name, text in describe_plan(config, setup, model).items():
                checks.print(name, "plan", text)
            if num_steps and all(name in values for name in ("weights", "workers", "agreement")):
                # Outside of the checklist: an error of one rank must end the others, which wait.
                watchdog.set_hang_timeout(config.log.hang_timeout_s)
                times = time_steps(config, setup, model, world, watchdog, num_steps)
                checks.print("speed", "ok", describe_times(times, setup))
        verdict = f"{checks.num_failed} of the checks failed; a start would not train"
        if checks.num_failed == 0:
            verdict = "ready to train; nothing was written"
        checks.print("dry run", "ERROR" if checks.num_failed else "ok", verdict)
        return checks.num_failed == 0


def check_environment(checks: Checklist, world: World) -> None:
    """Checks what a start finds before it reads its settings."""
    checks.run("port", lambda: describe_port(world))
    checks.run("connection", lambda: check_connection(world))
    checks.run("SLURM", lambda: describe_slurm(world))
    checks.run("device", lambda: world, describe_device)


def check_start(checks: Checklist, arguments: Sequence[str], world: World) -> None:
    """Checks the parts of a run in the order of a start."""
    topology = world.topology()
    checks.run("settings", lambda: load_words(arguments), lambda config: _name(arguments))

    def run(
        name: str, check: Callable[..., Any], describe: Callable[[Any], str], *needs: str
    ) -> None:
        checks.run(name, check, describe, ("settings", *needs))

    run("run folder", lambda config: _check_folder(config, world), str)
    run("W&B", lambda config: _choose_mode(config, world), _describe_mode)
    run("precision", lambda config: name_dtype(choose_dtype(config.precision.dtype)), str)
    run("train shards", lambda config: open_train_set(config.data, topology), _describe)
    run("val shards", lambda config: open_validation_sets(config.data, topology), _describe_sets)
    run("checkpoint", find_resumable, _describe_checkpoint)
    found = ("train shards", "val shards", "checkpoint")
    run("batch", partial(_plan, topology), _describe_batch, *found)
    run("rate", _advise_on_rate, str, "batch")
    run("first samples", lambda config, setup: _decode(config, setup, world), str, "batch")
    run("workers", lambda config, setup: _check_workers(config, setup, world), str, "batch")
    run("model", build_model, _count_weights)
    loads = ("batch", "model")
    run("weights", partial(_check_weights, world), str, *loads)
    run("disk", check_space, _describe_space, *loads)
    run(
        "agreement",
        lambda config, setup: check_agreement(
            world, AGREEMENT, config=config, **agreed_values(setup)
        ),
        lambda _: "all ranks have the same settings, shards and checkpoint",
        "batch",
    )


def _plan(
    topology: Topology,
    config: Config,
    train_set: ShardDataset,
    val_sets: tuple[ValidationSet, ...],
    checkpoint: Checkpoint | None,
) -> RunSetup:
    return plan_run(config, topology, train_set, val_sets, checkpoint)


def _name(arguments: Sequence[str]) -> str:
    files = [word for word in arguments if "=" not in word]
    return f"{' '.join(files) or 'defaults'} and {len(arguments) - len(files)} overrides"


def _check_folder(config: Config, world: World) -> str:
    folder = Path(config.log.run_dir)
    if world.is_main:
        check_run_dir(folder)
    return f"{folder}, {'of an earlier start' if folder.is_dir() else 'new'}"


def _choose_mode(config: Config, world: World) -> tuple[str, str]:
    return choose_mode(config.log.wandb_mode) if world.is_main else ("disabled", "")


def _describe_mode(choice: tuple[str, str]) -> str:
    mode, report = choice
    return Advice(report) if report else mode


def _describe(train_set: ShardDataset) -> str:
    manifest = train_set.manifest
    num_bytes = sum(shard.num_bytes for shard in manifest.shards)
    return (
        f"{train_set.place}: {len(train_set):,} samples of {manifest.recipe.split} in "
        f"{len(manifest.shards):,} shards, {num_bytes / 1e9:.3f} GB"
    )


def _describe_space(advice: str) -> str:
    return Advice(advice) if advice else "enough for all checkpoints that are kept"


def _describe_sets(sets: Sequence[ValidationSet]) -> str:
    for _, dataset in sets:
        dataset[0]  # decodes a sample of each
    return ", ".join(f"{name}: {len(dataset):,} images" for name, dataset in sets) or "none"


def _describe_checkpoint(checkpoint: Checkpoint | None) -> str:
    if checkpoint is None:
        return "none, the run starts at step 0"
    return f"{checkpoint.folder}, the run resumes at step {checkpoint.state.step}"


def _describe_batch(setup: RunSetup) -> str:
    plan: BatchPlan = setup.plan
    text = (
        f"{plan.global_batch_size} samples a step = {plan.micro_batch_size} (micro-batch) x "
        f"{plan.grad_accum_steps} (accumulation) x {setup.topology.world_size} (ranks)"
    )
    if setup.first_step < setup.last_step:
        return text
    end = setup.early_end or "the end of the run"
    return Advice(f"nothing is left to train after step {setup.first_step}: {end}")


def _advise_on_rate(config: Config, setup: RunSetup) -> str:
    size, num_ranks = setup.plan.global_batch_size, setup.topology.world_size
    advice = advise_on_rate(config.optim, size, num_ranks)
    epoch, _ = setup.order.position(setup.first_step)
    rate = learning_rate(config.optim, size, epoch, setup.first_step, setup.last_step)
    return Advice(advice) if advice else f"{rate:.3g} at step {setup.first_step}"


def _decode(config: Config, setup: RunSetup, world: World) -> str:
    """Reads this rank's first micro-batch, in this process."""
    steps = range(setup.first_step, setup.first_step + 1)
    batch = next(iter(open_loader(config, setup, steps, world, num_workers=0)))
    num_samples, num_views, height, width, _ = batch.frames.shape
    return f"{num_samples} decoded, each {num_views} views of {width}x{height}"


def _check_workers(config: Config, setup: RunSetup, world: World) -> str:
    check_limits(config.data, setup, world)
    advice = advise_on_workers(config, world)
    return Advice(advice) if advice else "shared memory, open files and processes suffice"


def _count_weights(model: MonodepthModel) -> str:
    return f"{sum(weight.numel() for weight in model.parameters()) / 1e6:.1f} million weights"


def _check_weights(world: World, config: Config, setup: RunSetup, model: MonodepthModel) -> str:
    """Loads the first weights, unless a start would download them."""
    network = config.network
    if setup.checkpoint is None:
        needs_encoder = network.init_from is None or "encoder" not in (
            network.init_networks or ("encoder",)
        )
        is_timms = network.weights != "scratch" and isinstance(model.encoder, TimmEncoder)
        if is_timms and needs_encoder:
            return Advice(f"a start takes those of {network.encoder} from timm, or downloads them")
        source = (network.weights, network.init_from, network.init_networks)
        missing = list_downloads(model, *source) if world.is_main else []
        if missing:
            for address in missing:
                _probe(address)
            return Advice(f"not on this machine: a start downloads {', '.join(missing)}")
    load_first_weights(model, config, setup, world)
    checkpoint = setup.checkpoint
    return str(checkpoint.folder if checkpoint else network.init_from or network.weights)


def _probe(address: str) -> None:
    """Raises a WeightsError if a server does not answer a request for a file."""
    try:
        open_web(address, method="HEAD", timeout=_PROBE_S).close()
    except (OSError, HTTPException, ValueError) as error:
        raise WeightsError(
            f"{address} is not on this machine and cannot be downloaded: {error}; copy it here and "
            "name its path, or set network.weights=scratch"
        ) from None
