"""Models with weights: initial ones for training, trained ones for evaluation and prediction."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from md2dist.config import load_config
from md2dist.errors import ConfigError, WeightsError
from md2dist.model import MonodepthModel
from md2dist.networks.precision import choose_dtype
from md2dist.runs.checkpoint_manifest import read_manifest
from md2dist.runs.checkpoint_names import CONFIG_NAME
from md2dist.weights.imagenet import list_missing, load_imagenet
from md2dist.weights.published import (
    describe_published,
    drop_missing_heads,
    fill_model,
    import_published,
)
from md2dist.weights.published_source import PublishedWeights, is_published
from md2dist.weights.run_folder import import_checkpoint, open_checkpoint, resolve_checkpoint
from md2dist.weights.zoo_cache import find_missing, locate


def initialise(
    model: MonodepthModel,
    weights: str,
    init_from: str | None = None,
    init_networks: Sequence[str] = (),
) -> None:
    """Loads the initial weights of a training.

    Args:
        model: a model with random weights.
        weights: ``scratch`` keeps them; otherwise the source of ImageNet weights (see
            `load_imagenet`).
        init_from: a run, a checkpoint, or published weights as a folder, file or name; if
            given, `weights` is ignored.
        init_networks: the networks that `init_from` initialises, such as encoder and depth; the
            others are initialised by `weights`. Empty: all.

    Raises:
        ConfigError: if the model has none of these networks.
        WeightsError: if a file is missing, damaged, or of another network.
        CheckpointError: if there is no checkpoint at `init_from`, or it is damaged.
    """
    own = [name for name, _ in model.named_children()]
    if lacking := [name for name in init_networks if name not in own]:
        raise ConfigError(
            f"network.init_networks has {lacking[0]}, but the networks of this model are "
            f"{', '.join(own)}"
        )
    if weights != "scratch" and (init_from is None or init_networks):
        load_imagenet(model, weights, init_networks)
    if init_from is not None:
        path = locate(init_from)
        if is_published(path):
            import_published(model, path, init_networks)
        else:
            import_checkpoint(model, open_checkpoint(path).folder, init_networks)
    if model.dtype == torch.float16:
        _check_fp16(model, init_from or weights, "set precision.dtype=bf16")


def list_downloads(
    model: MonodepthModel,
    weights: str,
    init_from: str | None = None,
    init_networks: Sequence[str] = (),
) -> list[str]:
    """Lists the addresses from which `initialise` would download; the arguments are the same.

    Raises:
        WeightsError: if an address of weights has no checksum.
    """
    missing = [] if init_from is None else [find_missing(init_from)]
    if weights != "scratch" and (init_from is None or init_networks):
        missing += list_missing(model, weights, init_networks)
    return [address for address in missing if address is not None]


def find_model(path: str | Path, weights_dir: Path | None = None) -> tuple[Path, int | None]:
    """Finds the weights that a path refers to now; for a run in training, they change.

    Args:
        path: as for `load_model`.
        weights_dir: as for `load_model`.

    Returns:
        The folder of the checkpoint, or the folder or file of published weights, without links; and
        the step of the checkpoint, None for published weights.

    Raises:
        CheckpointError: if there is no model at `path`, or the manifest of the checkpoint is
            damaged.
    """
    path = locate(path, weights_dir)
    if is_published(path):
        return path.resolve(), None
    checkpoint = resolve_checkpoint(path).resolve()
    return checkpoint, read_manifest(checkpoint).facts.step


def load_model(
    path: str | Path,
    device: str | torch.device = "cpu",
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    weights_dir: Path | None = None,
) -> MonodepthModel:
    """Loads a trained model for evaluation and prediction.

    Args:
        path: the folder of a run (its newest checkpoint is used), of a checkpoint, or of
            published files, of which encoder and depth are needed; or a file with both;
            or the name of a published model, such as mono_640x192, which is downloaded once.
        device: device of the model.
        dtype: type of the networks' computations; auto: that of the run's settings, float32 for
            published files.
        weights_dir: folder of published archives, instead of the network; see `locate`.

    Returns:
        The model in eval mode.

    Raises:
        WeightsError: if a file is missing, damaged, or of another network, or its weights exceed
            the range of float16 and the model computes in it.
        CheckpointError: if there is no model at `path`, or the checkpoint is damaged.
        ConfigError: if the settings of the run are not valid.
    """
    path = locate(path, weights_dir)
    if is_published(path):
        model = _load_published(PublishedWeights(path))
    else:
        checkpoint = open_checkpoint(path).folder
        model = MonodepthModel.from_config(load_config([checkpoint / CONFIG_NAME]))
        import_checkpoint(model, checkpoint)
    if dtype != "auto":  # an override to fp16 would be refused if the run uses zero_stage
        model.dtype = choose_dtype(dtype)
    if model.dtype == torch.float16:
        _check_fp16(model, path, "compute in fp32 or bf16 (--dtype)")
    return model.to(device).eval()


def _load_published(weights: PublishedWeights) -> MonodepthModel:
    """Builds the model of published weights; no pose network or coarse scale is needed."""
    try:
        config = load_config(overrides=describe_published(weights))
    except ConfigError as error:
        file = weights.file("encoder")
        raise WeightsError(f"{file} belongs to no supported model: {error}") from None
    model = MonodepthModel.from_config(config)
    model.use_stereo = bool(weights.settings()["use_stereo"])
    drop_missing_heads(model, weights)
    fill_model(model, weights)
    return model


def _check_fp16(model: MonodepthModel, source: str | Path, remedy: str) -> None:
    largest = torch.finfo(torch.float16).max
    for name, weight in model.named_parameters():
        if weight.abs().max() > largest:
            raise WeightsError(
                f"{name} of {source} exceeds {largest:g}, the range of fp16; {remedy}"
            )
