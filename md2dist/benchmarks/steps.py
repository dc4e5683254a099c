"""Benchmarks of loading and of training steps, through the code of training."""

import copy
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, cast

import torch

from md2dist.benchmarks.ddp_engine import DdpEngine
from md2dist.benchmarks.kernels import KernelCounter
from md2dist.config import CheckpointConfig, Config
from md2dist.conventions import STEREO_BASELINE
from md2dist.data.loading.collate import recipe_intrinsics
from md2dist.data.loading.loader import make_loader
from md2dist.data.shards.recipe import view_names
from md2dist.distributed.world import World
from md2dist.errors import ConfigError
from md2dist.kernel_style import few_kernels_everywhere
from md2dist.model import MonodepthModel
from md2dist.networks.precision import choose_dtype
from md2dist.records import Batch, FrameBatch
from md2dist.training.batch_plan import BatchPlan, plan_batches
from md2dist.training.engine import Engine, make_engine
from md2dist.training.setup import set_up_run
from md2dist.training.step import TrainingStep


def bench_data(config: Config, num_batches: int) -> dict[str, Any]:
    """Times loading from shards to collated uint8 batches, in this process on one core.

    Args:
        config: names the shards; the micro-batch and the views are the run's own.
        num_batches: number of timed micro-batches, after one that is not.

    Returns:
        Samples per second of CPU time, which other processes of the machine do not change, and the
        conditions of the measurement.

    Raises:
        Md2distError: if the settings or the shards are invalid.
    """
    check_repeats(num_batches)
    fresh = replace(config, checkpoint=CheckpointConfig(resume="never"))
    setup = set_up_run(fresh)
    data, plan = config.data, setup.plan
    loader = make_loader(
        setup.train_set,
        setup.order,
        setup.topology,
        views=view_names(data.frame_offsets, data.use_stereo),
        steps=range(num_batches + 1),
    )
    batches = iter(loader)
    next(batches)
    seconds = []
    for _ in range(num_batches):
        start = time.process_time()
        next(batches)
        seconds.append(time.process_time() - start)
    recipe = setup.train_set.manifest.recipe
    return {
        "benchmark": "data",
        "samples_per_second_per_core": plan.micro_batch_size / statistics.median(seconds),
        "image_format": recipe.image_format,
        "micro_batch_size": plan.micro_batch_size,
        **describe_conditions(config),
    }


def bench_step(
    config: Config, num_steps: int, world: World, engine: str = "deepspeed"
) -> dict[str, Any]:
    """Times whole training steps and the four networks alone, in turn.

    A step is all that `TrainingStep` does: augmentation, networks, losses, backward, optimizer.
    The networks alone are their forward and backward pass and the optimizer, in the same types.

    Args:
        config: sizes, views, precision and batch; no shards are read.
        num_steps: number of timed steps of each kind, after some that are not.
        world: this process, connected.
        engine: deepspeed, or ddp: torch's DistributedDataParallel.

    Returns:
        Of this process: median seconds of both, their ratio, samples per second of all ranks, peak
        device memory in GiB (0 on a CPU), the kernels and host waits of a step that is computed as
        on a GPU, and the conditions of the measurement.
    """
    check_repeats(num_steps)
    plan = plan_batches(config.optim, world.world_size)
    model = MonodepthModel.from_config(config)
    networks_alone = copy.deepcopy(model)  # the engine's own gradients are hooked
    take_step = prepare_step(config, world, num_steps, model, engine)
    for number in range(2):
        take_step(number)
    with _uncompiled(config), few_kernels_everywhere(), KernelCounter() as counter:
        take_step(2)
    memory = torch.cuda.max_memory_allocated(world.device) if world.device.type == "cuda" else 0
    run_networks = _train_on_noise(networks_alone.to(world.device), config, plan, world.device)
    run_networks()
    step_seconds, network_seconds = [], []
    for number in range(num_steps):
        step_seconds.append(time_call(lambda n=number: take_step(n), world.device))
        network_seconds.append(time_call(run_networks, world.device))
    step, networks = statistics.median(step_seconds), statistics.median(network_seconds)
    return {
        "benchmark": "step",
        "seconds_per_step": step,
        "seconds_networks_alone": networks,
        "ratio": step / networks,
        "samples_per_second": plan.global_batch_size / step,
        "peak_memory_gib": memory / 2**30,
        "kernels_per_step": counter.kernels.total(),
        "host_waits_per_step": counter.host_waits.total(),
        "micro_batch_size": plan.micro_batch_size,
        "ranks": world.world_size,
        "engine": engine,
        **describe_conditions(config),
    }


def prepare_step(
    config: Config,
    world: World,
    num_steps: int,
    model: MonodepthModel | None = None,
    engine: str = "deepspeed",
) -> Callable[[int], object]:
    """Makes what trains on random images.

    Args:
        config: sizes, views, precision and batch; no shards are read.
        world: this process, connected.
        num_steps: length of the training.
        model: the model; None: a new one.
        engine: deepspeed, or ddp.

    Returns:
        A function that takes the step of a number.
    """
    plan = plan_batches(config.optim, world.world_size)
    model = model or MonodepthModel.from_config(config)
    if engine == "ddp":
        ddp = DdpEngine(model, config, plan, world)
        used, guard = cast(Engine, ddp), ddp.guard
    else:
        used, guard = make_engine(model, config, plan, world)
    used.train()
    take_step = TrainingStep(used, guard, config, plan, world, num_steps)
    micro_batches = [_random_frames(config, plan.micro_batch_size)] * plan.grad_accum_steps
    return lambda number: take_step(micro_batches, 0, number)


def _uncompiled(config: Config) -> AbstractContextManager[Any]:
    """Returns a context in which each operation is called, and can be counted."""
    is_compiled = config.precision.compile
    return torch.compiler.set_stance("force_eager") if is_compiled else nullcontext()


def _train_on_noise(
    model: MonodepthModel, config: Config, plan: BatchPlan, device: torch.device
) -> Callable[[], None]:
    """Returns a function that trains the networks for one step with a trivial loss."""
    frames = FrameBatch(*(x.to(device) for x in _random_frames(config, plan.micro_batch_size)))
    images = frames.frames.permute(0, 1, 4, 2, 3).float() / 255
    target, sources = images[:, 0], images[:, 1:]
    batch = Batch(target, target, sources, sources, *frames[1:])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0, fused=True)

    def run() -> None:
        for _ in range(plan.grad_accum_steps):
            predictions = model.run_networks(batch)
            outputs = (
                *predictions.disparities,
                *predictions.masks,
                predictions.T_source_target[:, : len(config.data.frame_offsets)],
            )
            torch.stack([x.mean() for x in outputs if x.numel()]).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def check_repeats(num: int) -> None:
    """Checks the number of timed repetitions.

    Raises:
        ConfigError: if it is < 1.
    """
    if num < 1:
        raise ConfigError(f"{num} timed repetitions; expected >= 1")


def _random_frames(config: Config, batch_size: int) -> FrameBatch:
    data = config.data
    num_views = 1 + len(data.frame_offsets) + data.use_stereo
    K = torch.from_numpy(recipe_intrinsics(data.height, data.width))
    T_stereo = torch.eye(4)
    T_stereo[0, 3] = -STEREO_BASELINE
    return FrameBatch(
        frames=torch.randint(
            256, (batch_size, num_views, data.height, data.width, 3), dtype=torch.uint8
        ),
        K=K.expand(batch_size, 3, 3),
        T_stereo=T_stereo.expand(batch_size, 4, 4),
        sample_id=torch.arange(batch_size),
    )


def time_call(call: Callable[[], Any], device: torch.device) -> float:
    """Returns the wall-clock seconds of a call, until the device is done."""
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def describe_conditions(config: Config) -> dict[str, Any]:
    """Returns the conditions of a measurement."""
    data, precision = config.data, config.precision
    dtype = str(choose_dtype(precision.dtype)).removeprefix("torch.")
    return {
        "size": f"{data.width}x{data.height}",
        "views": 1 + len(data.frame_offsets) + data.use_stereo,
        "precision": dtype + ", compiled" * precision.compile,
        **describe_machine(),
    }


def describe_machine() -> dict[str, Any]:
    """Returns what a measurement ran on."""
    return {
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
        "torch": torch.__version__,
    }
