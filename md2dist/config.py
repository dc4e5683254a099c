"""The typed, frozen schema of all settings, and `load_config`, which fills it.

A configuration is this schema, changed by YAML files in order, changed by `key=value` overrides.
Each field names its meaning, its unit and, where there is one, the published value.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, Literal, cast

from omegaconf import OmegaConf

from md2dist.config_merge import ConfigMerge
from md2dist.errors import ConfigError

SMALLEST_SIZE = 64  # rows or columns; features of a single one cannot be padded by reflection


@dataclass(frozen=True)
class DataConfig:
    """Which shards, which views of them, and how they are read."""

    train_shards: str | None = None  # folder that holds index.json; http(s)://, s3://, pipe:
    val_shards: str | None = None  # the same, packed with ground truth; null: no validation
    height: int = 192  # rows in pixels, divisible by 32 (published: 192)
    width: int = 640  # columns in pixels, divisible by 32 (published: 640)
    frame_offsets: tuple[int, ...] = (-1, 1)  # temporal sources, ascending, without 0
    use_stereo: bool = False  # the other camera is a source (published: true for S and MS)
    use_flip: bool = True  # mirror half of the samples (published: true)
    use_color_jitter: bool = True  # jitter half of the samples (published: true)
    use_true_intrinsics: bool = False  # calibrated K instead of 0.58 W, 1.92 H (published: false)
    num_workers: int = 4  # loader processes per rank; 0 reads in the training process
    window_shards: int = 16  # shards that are shuffled together
    prefetch_batches: int = 4  # micro-batches that each worker keeps ready
    cache_dir: str | None = None  # for what is fetched; null: the node's temporary folder, for URLs
    cache_gb: float = 50.0  # GB that all ranks of a node keep there


@dataclass(frozen=True)
class NetworkConfig:
    """The encoders and where their weights come from."""

    num_layers: Literal[18, 34, 50, 101, 152] = 18  # of both ResNet encoders (published: 18)
    weights: str = "imagenet"  # scratch, imagenet (torchvision's file), or a path or URL of one
    init_from: str | None = None  # a checkpoint of ours or a folder of the published four files
    use_sync_batchnorm: bool = False  # statistics of all ranks together (published: one GPU)
    freeze_batchnorm: bool = False  # keep batch norm in eval mode (published: false)


@dataclass(frozen=True)
class LossConfig:
    """The loss; the defaults are the published method."""

    min_depth: float = 0.1  # m, depth of disparity 1 (published: 0.1)
    max_depth: float = 100.0  # m, depth of disparity 0 (published: 100)
    smoothness_weight: float = 1e-3  # at scale 0, halved per scale (published: 1e-3)
    tie_noise: float = 1e-5  # deviation of the noise on the identity error (published: 1e-5)
    use_ssim: bool = True  # 0.85 SSIM + 0.15 L1; false: L1 alone
    use_auto_mask: bool = True  # the unwarped sources compete for the minimum
    use_average: bool = False  # mean over the sources instead of the minimum
    use_v1_multiscale: bool = False  # photometric error at each scale's own resolution
    use_predictive_mask: bool = False  # a mask decoder weighs the error; needs use_auto_mask=false


@dataclass(frozen=True)
class OptimConfig:
    """Adam, its schedule, and the batch."""

    lr: float = 1e-4  # (published: 1e-4)
    lr_batch_size: int | None = None  # global batch that `lr` is for, scaling linearly; null: any
    warmup_steps: int = 0  # first steps, over which the rate rises linearly (published: 0)
    lr_drop_epoch: int = 15  # epochs at `lr` before the drop (published: 15)
    lr_drop_factor: float = 0.1  # (published: 0.1)
    num_epochs: int = 20  # (published: 20; from scratch 30)
    max_steps: int | None = None  # ends the run earlier, counted in optimizer steps
    micro_batch_size: int = 12  # samples per forward pass of one rank (published: 12 on one GPU)
    grad_accum_steps: int | None = None  # forward passes per step; null: derived, 1 without a goal
    global_batch_size: int | None = None  # samples per step; null: micro x accumulation x ranks
    max_skipped_steps: int = 20  # steps in a row without finite gradients that end the run


@dataclass(frozen=True)
class PrecisionConfig:
    """The type in which the networks compute; heads, geometry and loss are always float32."""

    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # bf16 if native (published: fp32)
    initial_loss_scale: float = 65536.0  # fp16 only


@dataclass(frozen=True)
class DeepspeedConfig:
    """What DeepSpeed is told beyond the batch and the precision."""

    zero_stage: Literal[0, 1, 2] = 0  # optimizer states (1) and gradients (2) split over the ranks


@dataclass(frozen=True)
class CheckpointConfig:
    """When the run is saved and where it goes on."""

    every_steps: int | None = None  # besides the end of every epoch
    keep: int = 3  # newest checkpoints that stay on the disk
    resume: Literal["auto", "must", "never"] = "auto"  # must: an error where there is nothing


@dataclass(frozen=True)
class LogConfig:
    """What the run tells, and where."""

    run_dir: str = "runs/default"  # config.yaml, metrics.jsonl, status.json, checkpoints/, logs/
    wandb_mode: Literal["auto", "online", "offline", "disabled"] = "auto"  # by account
    wandb_project: str = "md2dist"  # where the run appears
    every_steps: int = 10  # steps between two lines of the log
    pictures_every_steps: int = 500  # steps between two pictures; 0: none
    hang_timeout_s: float = 600.0  # s without progress; then all stacks are told and the job ends


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    deepspeed: DeepspeedConfig = field(default_factory=DeepspeedConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    log: LogConfig = field(default_factory=LogConfig)
    seed: int = 0  # of weights, order, augmentation and noise


def load_config(paths: Sequence[str | Path] = (), overrides: Sequence[str] = ()) -> Config:
    """Reads YAML files and overrides into the schema and checks the result.

    Args:
        paths: YAML files, later ones win.
        overrides: ``section.key=value``, e.g. ``optim.lr=1e-4``; they win last. The value is YAML,
            or, for settings of type str, text as it stands.

    Returns:
        The frozen tree of settings. No file that it names is opened.

    Raises:
        ConfigError: for a missing or malformed file, an unknown key (with the nearest known one), a
            value of the wrong type, or settings that contradict each other.
    """
    merge = ConfigMerge(Config)
    for path in paths:
        merge.add_file(Path(path))
    for override in overrides:
        merge.add_override(override)
    config = cast(Config, merge.finish())
    _check(config)
    return config


def load_words(words: Sequence[str]) -> Config:
    """Loads the words of a command line: those with an equals sign override, the others are files.

    Raises:
        ConfigError: as `load_config`.
    """
    overrides = [word for word in words if "=" in word]
    return load_config([word for word in words if "=" not in word], overrides)


def dump_config(config: Config) -> str:
    """Returns all settings as YAML that `load_config` reads back."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def save_config(config: Config, path: str | Path) -> None:
    """Writes all settings to a YAML file that `load_config` reads back."""
    Path(path).write_text(dump_config(config))


def _check(config: Config) -> None:
    """Raises a ConfigError where two settings, or a setting and its range, do not fit."""
    data, loss, optim = config.data, config.loss, config.optim
    for key, size in (("data.height", data.height), ("data.width", data.width)):
        if size < SMALLEST_SIZE or size % 32:
            lower = max(SMALLEST_SIZE, size // 32 * 32)
            expected = f"a multiple of 32 from {SMALLEST_SIZE} on, such as {lower} or {lower + 32}"
            _refuse(key, expected, size)
    offsets = data.frame_offsets
    if 0 in offsets or list(offsets) != sorted(set(offsets)):
        expected = "ascending distinct offsets without 0, e.g. [-1,1]"
        _refuse("data.frame_offsets", expected, f"[{','.join(map(str, offsets))}]")
    if not offsets and not data.use_stereo:
        raise ConfigError(
            "data.frame_offsets=[] and data.use_stereo=false leave no source image; "
            "set data.frame_offsets=[-1,1] (mono) or data.use_stereo=true (stereo)"
        )
    if not 0 < loss.min_depth < loss.max_depth:
        _refuse("loss.min_depth", f"0 < min_depth < max_depth={loss.max_depth}", loss.min_depth)
    for key, folder in (("log.run_dir", config.log.run_dir), ("data.cache_dir", data.cache_dir)):
        if folder and ("://" in folder or folder.startswith("pipe:")):
            _refuse(key, "a folder of this machine; an address is for shards and weights", folder)
    if loss.use_predictive_mask and loss.use_auto_mask:
        raise ConfigError(
            "loss.use_predictive_mask=true excludes auto-masking; set loss.use_auto_mask=false"
        )
    if config.precision.dtype == "fp16" and config.deepspeed.zero_stage > 0:
        raise ConfigError(
            f"precision.dtype=fp16 excludes deepspeed.zero_stage={config.deepspeed.zero_stage}: "
            "an overflow must be skipped on whole gradients; use bf16, or stage 0"
        )
    positive = {
        "optim.lr": optim.lr,
        "optim.lr_batch_size": optim.lr_batch_size,
        "optim.lr_drop_factor": optim.lr_drop_factor,
        "optim.num_epochs": optim.num_epochs,
        "optim.max_steps": optim.max_steps,
        "optim.max_skipped_steps": optim.max_skipped_steps,
        "optim.micro_batch_size": optim.micro_batch_size,
        "optim.grad_accum_steps": optim.grad_accum_steps,
        "optim.global_batch_size": optim.global_batch_size,
        "data.window_shards": data.window_shards,
        "data.prefetch_batches": data.prefetch_batches,
        "data.cache_gb": data.cache_gb,
        "checkpoint.every_steps": config.checkpoint.every_steps,
        "checkpoint.keep": config.checkpoint.keep,
        "log.every_steps": config.log.every_steps,
        "log.hang_timeout_s": config.log.hang_timeout_s,
        "precision.initial_loss_scale": config.precision.initial_loss_scale,
    }
    for key, value in positive.items():
        if value is not None and not 0 < value < inf:
            _refuse(key, "a positive number", value)
    not_negative = {
        "seed": config.seed,
        "data.num_workers": data.num_workers,
        "optim.lr_drop_epoch": optim.lr_drop_epoch,
        "optim.warmup_steps": optim.warmup_steps,
        "loss.tie_noise": loss.tie_noise,
        "loss.smoothness_weight": loss.smoothness_weight,
        "log.pictures_every_steps": config.log.pictures_every_steps,
    }
    for key, value in not_negative.items():
        if not 0 <= value < inf:
            _refuse(key, "zero or a positive number", value)
    if config.seed >= 2**63:
        _refuse("seed", "less than 2**63", config.seed)


def _refuse(key: str, expected: str, value: Any) -> None:
    raise ConfigError(f"{key}={value}: expected {expected}")
