"""Rules for settings: their ranges, and which of them exclude each other."""

import re
from math import inf
from typing import Any

from md2dist.config.schema import (
    MAX_PIXELS,
    NETWORK_NAMES,
    SMALLEST_SIZE,
    Config,
    NetworkConfig,
    OptimConfig,
)
from md2dist.errors import ConfigError
from md2dist.storage.addresses import public_text

_MOST_PICTURES = 100  # of a validation


def check_config(config: Config) -> None:
    """Raises a ConfigError if a setting is out of range or contradicts another one."""
    data, loss, optim = config.data, config.loss, config.optim
    for key, size in (("data.height", data.height), ("data.width", data.width)):
        if size < SMALLEST_SIZE or size % 32:
            lower = max(SMALLEST_SIZE, size // 32 * 32)
            expected = f"a multiple of 32, >= {SMALLEST_SIZE}, e.g. {lower} or {lower + 32}"
            _refuse(key, expected, size)
    if data.height * data.width > MAX_PIXELS:
        expected = f"at most {MAX_PIXELS:,} pixels, e.g. 1088x1920"
        _refuse("data.height", f"{expected}, with data.width={data.width}", data.height)
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
            _refuse(key, "a local folder; addresses are for shards and weights only", folder)
    if "" in data.val_shards or len(set(data.val_shards)) < len(data.val_shards):
        expected = "distinct folders or addresses"
        _refuse("data.val_shards", expected, f"[{','.join(data.val_shards)}]")
    if loss.use_predictive_mask and loss.use_auto_mask:
        raise ConfigError(
            "loss.use_predictive_mask=true excludes auto-masking; set loss.use_auto_mask=false"
        )
    network = config.network
    if network.pose_num_layers is not None and network.pose_type != "separate_resnet":
        raise ConfigError(
            f"network.pose_num_layers={network.pose_num_layers} needs a pose encoder, but "
            f"network.pose_type={network.pose_type} has none of its own; remove one of the two"
        )
    if network.encoder != "resnet":
        _check_timm(network)
    if unknown := set(network.init_networks).difference(NETWORK_NAMES):
        _refuse("network.init_networks", f"names among {', '.join(NETWORK_NAMES)}", min(unknown))
    if network.init_networks and network.init_from is None:
        raise ConfigError("network.init_networks needs network.init_from, a checkpoint or weights")
    if config.precision.dtype == "fp16" and config.deepspeed.zero_stage > 0:
        raise ConfigError(
            f"precision.dtype=fp16 excludes deepspeed.zero_stage={config.deepspeed.zero_stage}: "
            "skipping an overflow needs unpartitioned gradients; use bf16, or stage 0"
        )
    if config.precision.compile and network.use_sync_batchnorm:
        raise ConfigError(
            "precision.compile=true excludes network.use_sync_batchnorm=true, which communicates "
            "within the networks; remove one of the two"
        )
    if config.checkpoint.patience is not None and not data.val_shards:
        raise ConfigError(
            f"checkpoint.patience={config.checkpoint.patience} counts validations, of which there "
            "are none without data.val_shards; set it, or remove checkpoint.patience"
        )
    if optim.schedule == "cosine":
        _check_cosine(optim)
    epochs = config.checkpoint.keep_epochs
    if any(not 0 <= epoch < optim.num_epochs for epoch in epochs):
        expected = f"epochs from 0 to {optim.num_epochs - 1} (optim.num_epochs - 1)"
        _refuse("checkpoint.keep_epochs", expected, f"[{','.join(map(str, epochs))}]")
    positive = {
        "optim.lr": optim.lr,
        "optim.lr_batch_size": optim.lr_batch_size,
        "optim.lr_drop_factor": optim.lr_drop_factor,
        "optim.lr_drop_every": optim.lr_drop_every,
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
        "checkpoint.validate_every_steps": config.checkpoint.validate_every_steps,
        "checkpoint.patience": config.checkpoint.patience,
        "log.every_steps": config.log.every_steps,
        "log.hang_timeout_s": config.log.hang_timeout_s,
        "precision.initial_loss_scale": config.precision.initial_loss_scale,
    }
    for key, value in positive.items():
        if value is not None and not 0 < value < inf:
            _refuse(key, "a finite number > 0", value)
    not_negative = {
        "seed": config.seed,
        "data.num_workers": data.num_workers or 0,
        "optim.weight_decay": optim.weight_decay,
        "optim.lr_drop_epoch": optim.lr_drop_epoch,
        "optim.warmup_steps": optim.warmup_steps,
        "loss.tie_noise": loss.tie_noise,
        "loss.smoothness_weight": loss.smoothness_weight,
        "log.pictures_every_steps": config.log.pictures_every_steps,
        "log.val_pictures": config.log.val_pictures,
        "log.wandb_worst": config.log.wandb_worst,
    }
    for key, value in not_negative.items():
        if not 0 <= value < inf:
            _refuse(key, "a finite number >= 0", value)
    for key in ("val_pictures", "wandb_worst"):
        if getattr(config.log, key) > _MOST_PICTURES:
            _refuse(f"log.{key}", f"<= {_MOST_PICTURES}", getattr(config.log, key))
    if config.seed >= 2**63:
        _refuse("seed", "< 2**63", config.seed)


def _check_timm(network: NetworkConfig) -> None:
    """Checks the settings of a model of timm; only timm knows whether there is one of this name."""
    if not re.fullmatch(r"timm:\w[\w.-]*", network.encoder, re.ASCII):
        expected = "resnet, or timm: and the name of one of its models, e.g. timm:convnext_tiny"
        _refuse("network.encoder", expected, network.encoder)
    if network.weights not in ("scratch", "imagenet"):
        expected = f"imagenet (timm's weights) or scratch with network.encoder={network.encoder}"
        _refuse("network.weights", expected, network.weights)
    if network.use_sync_batchnorm:
        raise ConfigError(
            f"network.use_sync_batchnorm=true excludes network.encoder={network.encoder}: batch "
            "norm in timm's models may include the activation; use the ResNet, or per-rank "
            "statistics, or network.freeze_batchnorm=true"
        )


def _check_cosine(optim: OptimConfig) -> None:
    """Refuses settings that the cosine schedule would ignore, or leaves no step for it."""
    for key in ("lr_drop_epoch", "lr_drop_every", "lr_drop_factor"):
        if (value := getattr(optim, key)) != (default := getattr(OptimConfig, key)):
            raise ConfigError(
                f"optim.{key}={value} has no effect with optim.schedule=cosine; set "
                f"optim.{key}={'null' if default is None else default}, or optim.schedule=step"
            )
    if optim.max_steps is not None and optim.warmup_steps >= optim.max_steps:
        expected = f"< optim.max_steps={optim.max_steps}, since optim.schedule=cosine begins then"
        _refuse("optim.warmup_steps", expected, optim.warmup_steps)


def _refuse(key: str, expected: str, value: Any) -> None:
    raise ConfigError(public_text(f"{key}={value}: expected {expected}"))
