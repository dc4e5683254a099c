"""Published weights: import, export, and the model that they belong to."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from md2dist.config import LossConfig
from md2dist.errors import WeightsError
from md2dist.model import MonodepthModel
from md2dist.networks.depth_decoder import NUM_SCALES
from md2dist.networks.encoders import Encoder
from md2dist.networks.resnet import ResNetEncoder
from md2dist.networks.timm_encoder import TimmEncoder
from md2dist.runs.checkpoint_names import STATES_NAME
from md2dist.storage.atomic import atomic_open
from md2dist.weights.fit import check_architecture, check_state_dict, find_num_layers, strip_prefix
from md2dist.weights.layout import (
    CLASSIFIER,
    POSE_NETWORKS,
    SETTINGS,
    networks_of,
    published_names,
)
from md2dist.weights.published_source import PublishedWeights

logger = logging.getLogger(__name__)


def import_published(model: MonodepthModel, path: str | Path, networks: Sequence[str] = ()) -> None:
    """Loads the published weights of all networks of the model, or none of them if one fails.

    Args:
        model: receives the weights; networks without a published file are unchanged: a predictive
            mask, a pose network other than the separate one.
        path: as for `PublishedWeights`; has encoder and depth, and pose_encoder and pose if the
            model has a pose network.
        networks: the networks of the model to load; empty: all.

    Raises:
        WeightsError: if a file is missing, damaged, or of another network.
    """
    fill_model(model, PublishedWeights(Path(path)), networks)


def fill_model(
    model: MonodepthModel, weights: PublishedWeights, networks: Sequence[str] = ()
) -> None:
    """Loads weights that are open already; see `import_published`."""
    found = networks_of(model)
    if without_file := [name for name in networks if name not in found]:
        raise WeightsError(f"{weights.path} has no {without_file[0]}: it is not published")
    if not networks:
        _check_pose_files(model, weights)
        if without_file := [name for name, _ in model.named_children() if name not in found]:
            logger.warning(
                "%s has no file of %s, which keep their initial weights",
                weights.path,
                " and ".join(without_file),
            )
    states = {}
    for name, network in found.items():
        if networks and name not in networks:
            continue
        path, own, state = weights.file(name), network.state_dict(), weights.state(name)
        if isinstance(network, Encoder):
            check_architecture(strip_prefix(state, "encoder."), network, path)
            state = {key: state[key] for key in state if key not in SETTINGS}
        names = published_names(name, own)
        if name == "depth" and len(model.depth.heads) < NUM_SCALES:
            state = {key: state[key] for key in state if key in names.values()}
        state = check_state_dict(state, {names[key]: own[key] for key in names}, path)
        states[name] = {key: state.get(names[key], own[key]) for key in names}
    for name, state in states.items():
        model.get_submodule(name).load_state_dict(state)


def export_published(model: MonodepthModel, folder: str | Path) -> list[Path]:
    """Writes the published files; they get their names once all of them are complete.

    Args:
        model: parts without a place in the layout are omitted, see `describe_omissions`.
        folder: created if missing; files of the same names are replaced.

    Returns:
        The files.

    Raises:
        WeightsError: if the encoder is a model of timm, or the folder is a run's or a checkpoint's,
            or has files of a pose network and the model has none, or a weight is not finite.
        OSError: if writing fails.
    """
    folder, networks = Path(folder), networks_of(model)
    if isinstance(model.encoder, TimmEncoder):
        raise WeightsError(
            f"the published files hold ResNet encoders, and their readers build no other; that of "
            f"this model is {model.encoder.name}: use --format safetensors or onnx"
        )
    if (folder / "checkpoints").is_dir() or (folder / STATES_NAME).exists():
        raise WeightsError(
            f"{folder} is the folder of a run or a checkpoint, and would refer to these files from "
            "now on; choose another one"
        )
    stale = [f"{name}.pth" for name in POSE_NETWORKS if name not in networks]
    if any((folder / name).exists() for name in stale):
        raise WeightsError(f"{folder} has {' and '.join(stale)} of another model; use a new folder")
    check_finite(model)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{name}.pth" for name in networks]
    with ExitStack() as stack:  # at its end, the files get their names
        for name, path in zip(networks, files, strict=True):
            # Given a path, torch would turn an OSError into a RuntimeError.
            file = stack.enter_context(atomic_open(path))
            torch.save(_to_published(model, name), file)
            file.flush()
    return files


def describe_omissions(model: MonodepthModel) -> list[str]:
    """Lists, as sentences, what the published files of a model omit."""
    loss, published = model.loss_config, LossConfig()
    messages = describe_missing_heads(model)
    if loss.use_predictive_mask:
        messages.append("The predictive mask is omitted: the published files have no place for it.")
    if model.frame_offsets and model.network_config.pose_type != "separate_resnet":
        messages.append("The pose network is omitted: the published files have no place for it.")
    if (loss.min_depth, loss.max_depth) != (published.min_depth, published.max_depth):
        messages.append(
            f"loss.min_depth={loss.min_depth:g} and loss.max_depth={loss.max_depth:g} are "
            f"omitted: readers assume {published.min_depth:g} and {published.max_depth:g}, "
            "and compute another depth."
        )
    return messages


def describe_missing_heads(model: MonodepthModel) -> list[str]:
    """Returns a sentence if a model lacks heads of coarse scales, else nothing."""
    if (num_scales := len(model.depth.heads)) == NUM_SCALES:
        return []
    return [
        f"The heads of scales {num_scales} to {NUM_SCALES - 1} are omitted: the weights that "
        "were read have none. Training from these files is refused."
    ]


def describe_published(weights: PublishedWeights) -> list[str]:
    """Reads the settings of the model from published weights.

    Returns:
        Overrides for `load_config`; the precision is float32, as published. Without files of a pose
        network, they are those of a stereo model.

    Raises:
        WeightsError: if the weights of the encoder are missing, damaged, or not those of a
            published model.
    """
    encoders, settings = _describe_encoders(weights), weights.settings()
    has_pose = any(map(weights.has, POSE_NETWORKS))
    return [
        *encoders,
        f"data.frame_offsets={'[-1,1]' if has_pose else '[]'}",
        f"data.use_stereo={str(bool(settings['use_stereo']) or not has_pose).lower()}",
        f"data.height={settings['height']}",
        f"data.width={settings['width']}",
        *(f"loss.{name}={value}" for name, value in weights.depth_range().items()),
        "precision.dtype=fp32",
    ]


def _describe_encoders(weights: PublishedWeights) -> list[str]:
    """Returns settings of the encoders: timm's models have a name, ResNets a number of layers."""
    depths = {
        name: find_num_layers(strip_prefix(weights.state(name), "encoder."))
        for name in ("encoder", "pose_encoder")
        if weights.has(name) or name == "encoder"
    }
    encoder = weights.encoder()
    if depths["encoder"] is None and encoder == "resnet":
        raise WeightsError(
            f"{weights.file('encoder')} has not the layers of a ResNet; expected the encoder of a "
            "published model"
        )
    return [f"network.encoder={encoder}"] + [
        f"network.{key}={depths[name]}"
        for name, key in (("encoder", "num_layers"), ("pose_encoder", "pose_num_layers"))
        if depths.get(name) is not None
    ]


def drop_missing_heads(model: MonodepthModel, weights: PublishedWeights) -> None:
    """Removes the heads of coarse scales that the weights lack: only training uses them."""
    state = weights.state("depth")
    for scale in range(1, NUM_SCALES):
        if f"decoder.{10 + scale}.conv.weight" not in state:
            del model.depth.heads[scale:]
            return


def check_finite(model: MonodepthModel) -> None:
    """Checks that all weights of a model are finite, before it is exported.

    Raises:
        WeightsError: if one is not.
    """
    broken = [name for name, value in model.state_dict().items() if not value.isfinite().all()]
    if broken:
        raise WeightsError(
            f"{len(broken)} tensors of the model have values that are not finite, first "
            f"{broken[0]}; export another checkpoint"
        )


def _check_pose_files(model: MonodepthModel, weights: PublishedWeights) -> None:
    """Refuses weights without a pose network for a model that has one."""
    if "pose" in networks_of(model) and not any(map(weights.has, POSE_NETWORKS)):
        raise WeightsError(
            f"{weights.path} has no pose network (as after training on stereo alone), but this "
            f"model has one: expected {' and '.join(f'{name}.pth' for name in POSE_NETWORKS)}; set "
            "data.frame_offsets=[] data.use_stereo=true, or train from the other networks with "
            "network.init_networks=[encoder,depth], or use other weights"
        )


def _to_published(model: MonodepthModel, network: str) -> dict[str, Any]:
    """Returns one network's state dict under the published names, in their order."""
    module = model.get_submodule(network)
    own = module.state_dict()
    names = published_names(network, own)
    state: dict[str, Any] = {names[key]: own[key].cpu().contiguous() for key in names}
    if isinstance(module, ResNetEncoder):  # the published reader requires the classifier
        shapes = ((1000, module.channels[-1]), (1000,))
        state |= {key: torch.zeros(shape) for key, shape in zip(CLASSIFIER, shapes, strict=True)}
    if network == "encoder":
        state |= {key: getattr(model, key) for key in SETTINGS}
    return state
