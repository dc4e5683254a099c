"""DeepSpeed's engine around the model, with its optimizer and guard."""

import inspect
import logging
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Protocol, cast

import torch
import torch.distributed as dist

from md2dist.config import Config, OptimConfig
from md2dist.distributed.agreement import exit_on_all_ranks
from md2dist.distributed.world import World
from md2dist.errors import CheckpointError
from md2dist.model import MonodepthModel
from md2dist.networks.sync_batchnorm import synchronise_batchnorm
from md2dist.records import Batch, StepOutput
from md2dist.runs.checkpoint import CheckpointEngine, load_checkpoint
from md2dist.runs.checkpoint_folder import Checkpoint
from md2dist.runs.checkpoint_names import STATES_NAME
from md2dist.storage.cache_folder import user_cache_folder
from md2dist.training.batch_plan import BatchPlan
from md2dist.training.deepspeed_config import make_deepspeed_config
from md2dist.training.gradient_average import GradientAverage
from md2dist.training.gradient_guard import GradientGuard
from md2dist.weights.files import read_weights
from md2dist.weights.optimizer_state import check_moments, partition_name, read_partition

logger = logging.getLogger(__name__)


class Engine(CheckpointEngine, Protocol):
    """The part of DeepSpeed's engine that training uses."""

    module: MonodepthModel
    optimizer: torch.optim.Optimizer

    def __call__(self, batch: Batch, *, noise_seed: int) -> StepOutput:
        """Runs the model forward."""
        ...

    def backward(self, loss: torch.Tensor) -> Any:
        """Adds the gradients of the loss () of a micro-batch, divided by the accumulation steps."""

    def step(self) -> Any:
        """Ends a micro-batch; the last one of a step updates the weights."""

    def train(self) -> Any:
        """Puts the model into training mode."""


class EagerAdam(torch.optim.Adam):
    """Adam that is never compiled, so that torch does not import its compiler, for seconds.

    Torch imports it before a step and before methods that it excludes from compilation, of which it
    looks for the excluded version in `__dynamo_disable`.
    """

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))

    for _name in ("add_param_group", "state_dict", "load_state_dict"):
        _method = inspect.unwrap(getattr(torch.optim.Adam, _name))
        vars(_method).setdefault("__dynamo_disable", _method)


def make_engine(
    model: MonodepthModel, config: Config, plan: BatchPlan, world: World
) -> tuple[Engine, GradientGuard]:
    """Wraps a model with its losses in DeepSpeed's engine.

    Args:
        model: float32; moved to the world's device; receives rank 0's weights and buffers.
        config: all settings.
        plan: the batch sizes.
        world: this process, connected.

    Returns:
        The engine, and the gradient guard of its optimizer.
    """
    # Late: importing it takes seconds and searches for accelerators.
    import deepspeed
    from deepspeed.runtime.zero.utils import ZERO_SUPPORTED_OPTIMIZERS

    _join_other_libraries(deepspeed.utils.logger)
    if world.device.type == "cpu":
        # DeepSpeed would compile an inference operation at its first start, for a minute or more;
        # a job killed meanwhile leaves a lock file on which all later jobs wait.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if EagerAdam not in ZERO_SUPPORTED_OPTIMIZERS:
        ZERO_SUPPORTED_OPTIMIZERS.append(EagerAdam)
    if config.network.use_sync_batchnorm and world.world_size > 1:
        synchronise_batchnorm(model, world.device)
    model.to(world.device)
    if config.precision.compile:
        _compile_step(model)
    optimizer = make_optimizer(model, config.optim)
    zero_stage = config.deepspeed.zero_stage
    gradient_dtype = config.deepspeed.gradient_dtype
    guard = GradientGuard(
        optimizer,
        world.device,
        initial_scale=config.precision.initial_loss_scale
        if config.precision.dtype == "fp16"
        else None,
        is_partitioned=zero_stage > 0,
    )
    engine, *_ = deepspeed.initialize(
        # By default it uses the device numbered as the local rank, which this task may not see.
        args=SimpleNamespace(device_rank=world.device.index or 0),
        model=model,
        optimizer=optimizer,
        config=make_deepspeed_config(plan, zero_stage, gradient_dtype),
        dist_init_required=False,
    )
    if zero_stage == 0:
        average = GradientAverage(
            model.parameters(),
            cast(Callable[[], bool], engine.is_gradient_accumulation_boundary),
            torch.bfloat16 if gradient_dtype == "bf16" and world.world_size > 1 else None,
        )
        engine.buffered_allreduce_fallback = lambda *_, **__: average.finish()
    for buffer in model.buffers():  # DeepSpeed broadcasts the parameters only
        dist.broadcast(buffer, src=0)
    return cast(Engine, engine), guard


def _compile_step(model: MonodepthModel) -> None:
    """Lets the first step be compiled, or read from the cache of a user's earlier starts.

    It is not in the run's folder: what a run holds is never executed.
    """
    cache = os.environ.setdefault(
        "TORCHINDUCTOR_CACHE_DIR", str(user_cache_folder("compiled_steps"))
    )
    logger.info("compiling the first step, for minutes unless it is in %s", cache)
    model.compile_step()


def _join_other_libraries(logger: logging.Logger) -> None:
    """Lets the records of a library go where those of all others go, instead of the terminal."""
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.propagate = True
    has_log = logging.getLogger().hasHandlers()
    logger.setLevel(logging.INFO if has_log else logging.WARNING)


def make_optimizer(model: torch.nn.Module, optim: OptimConfig) -> EagerAdam:
    """Returns Adam, or with weight decay AdamW; both fused, as the gradient guard needs.

    AdamW decays all parameters alike, torch's plain meaning: each step first multiplies every
    weight and bias by 1 - rate x `weight_decay`.

    Source: Loshchilov and Hutter, ICLR 2019 (arXiv 1711.05101), algorithm 2.
    """
    return EagerAdam(
        model.parameters(),
        lr=optim.lr,
        weight_decay=optim.weight_decay,
        decoupled_weight_decay=optim.weight_decay > 0,
        fused=True,
    )


def load_states(engine: Engine, checkpoint: Checkpoint, world: World) -> None:
    """Loads a checkpoint into the engine; all ranks call it.

    DeepSpeed gets nothing but tensors that fit the engine's, and numbers of our own: no
    hyperparameter of the optimizer comes from a file.

    Raises:
        WeightsError: if a file of this rank is damaged, or refers to code.
        CheckpointError: if its content does not fit the engine.
    """
    with exit_on_all_ranks(world):
        contents = _read_contents(engine, checkpoint, world)
    load_checkpoint(engine, checkpoint.folder, contents)


def _read_contents(engine: Engine, checkpoint: Checkpoint, world: World) -> dict[str, Any]:
    """Reads the files of this rank, in the layout of DeepSpeed."""
    import deepspeed

    state, folder = checkpoint.state, checkpoint.folder
    is_partitioned = state.zero_stage > 0
    adam = engine.optimizer.optimizer if is_partitioned else engine.optimizer  # pyright: ignore
    shapes = [weight.shape for group in adam.param_groups for weight in group["params"]]
    groups = adam.state_dict()["param_groups"]
    states = read_weights(folder / STATES_NAME)
    content = {
        "module": states["module"],
        "dp_world_size": world.world_size,
        "mp_world_size": 1,
        "global_steps": state.step,
        "skipped_steps": 0,  # DeepSpeed's count; the guard has its own
    }
    if not is_partitioned:
        moments = check_moments(states.get("optimizer"), shapes, folder / STATES_NAME)
        return {STATES_NAME: content | {"optimizer": {"state": moments, "param_groups": groups}}}
    name = partition_name(world.rank)
    part = read_partition(folder, world.rank)
    moments = check_moments(part.optimizer, shapes, folder / name)
    if part.weights.numel() > shapes[0].numel():
        raise CheckpointError(f"{folder / name} is damaged: it has more weights than this rank")
    optimizer = {
        "base_optimizer_state": {"state": moments, "param_groups": groups},
        "single_partition_of_fp32_groups": [part.weights],
        "ds_version": deepspeed.__version__,
    }
    return {STATES_NAME: content, name: {"optimizer_state_dict": optimizer}}
