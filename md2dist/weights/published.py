"""Published weight files: layout, import and export."""

from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn

from md2dist.config import LossConfig
from md2dist.errors import WeightsError
from md2dist.model import MonodepthModel
from md2dist.networks.resnet import ResNetEncoder
from md2dist.runs.checkpoint_names import STATES_NAME
from md2dist.storage.atomic import atomic_open
from md2dist.weights.files import (
    check_num_layers,
    check_state_dict,
    find_num_layers,
    read_weights,
    strip_prefix,
)

POSE_NETWORKS = ("pose_encoder", "pose")  # absent in models trained on stereo alone
NETWORKS = ("encoder", "depth", *POSE_NETWORKS)
SETTINGS = ("height", "width", "use_stereo")  # plain values, in encoder.pth only
CLASSIFIER = ("encoder.fc.weight", "encoder.fc.bias")  # in both encoders' files, unused

_PREFIXES = {  # ours -> published, in the order of the files
    "encoder": {"": "encoder."},
    "depth": {
        f"{stage}.{level}.": f"decoder.{2 * level + position}.conv.conv."
        for level in range(5)
        for position, stage in enumerate(("before", "after"))
    }
    | {f"heads.{scale}.": f"decoder.{10 + scale}.conv." for scale in range(4)},
    "pose_encoder": {"": "encoder."},
    "pose": {"squeeze.": "net.0.", "conv1.": "net.1.", "conv2.": "net.2.", "head.": "net.3."},
}


def import_published(model: MonodepthModel, folder: str | Path) -> None:
    """Loads the published files of all networks of the model, or none of them if one fails.

    Args:
        model: receives the weights; its predictive mask, if any, is unchanged.
        folder: has encoder.pth and depth.pth, and pose_encoder.pth and pose.pth if the model has a
            pose network.

    Raises:
        WeightsError: if a file is missing, damaged, or of another network.
    """
    states = {}
    for name, network in _networks_of(model).items():
        path, own = Path(folder) / f"{name}.pth", network.state_dict()
        state = read_weights(path)
        if name == "encoder" and state.get("use_stereo"):
            _check_pose_files(model, Path(folder))
        if isinstance(network, ResNetEncoder):
            check_num_layers(strip_prefix(state, "encoder."), network.num_layers, path)
            state = {key: state[key] for key in state if key not in (*CLASSIFIER, *SETTINGS)}
        names = published_names(name, own)
        check_state_dict(state, {names[key]: own[key] for key in names}, path)
        states[name] = {key: state[names[key]] for key in names}
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
        WeightsError: if the folder is a run's or a checkpoint's, or has files of a pose network and
            the model has none, or a weight is not finite.
        OSError: if writing fails.
    """
    folder, networks = Path(folder), _networks_of(model)
    if (folder / "checkpoints").is_dir() or (folder / STATES_NAME).exists():
        raise WeightsError(
            f"{folder} is the folder of a run or a checkpoint, and would refer to these files from "
            "now on; choose another one"
        )
    stale = [f"{name}.pth" for name in POSE_NETWORKS if name not in networks]
    if any((folder / name).exists() for name in stale):
        raise WeightsError(f"{folder} has {' and '.join(stale)} of another model; use a new folder")
    _check_finite(model)
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
    messages = []
    if loss.use_predictive_mask:
        messages.append("The predictive mask is omitted: the published files have no place for it.")
    if (loss.min_depth, loss.max_depth) != (published.min_depth, published.max_depth):
        messages.append(
            f"loss.min_depth={loss.min_depth:g} and loss.max_depth={loss.max_depth:g} are "
            f"omitted: readers assume {published.min_depth:g} and {published.max_depth:g}, "
            "and compute another depth."
        )
    return messages


def published_names(network: str, names: Collection[str]) -> dict[str, str]:
    """Maps a network's own names to the published ones, in the order of the published file.

    Args:
        network: ``encoder``, ``depth``, ``pose_encoder`` or ``pose``.
        names: the keys of the network's state dict.
    """
    return {
        name: published + name.removeprefix(ours)
        for ours, published in _PREFIXES[network].items()
        for name in names
        if name.startswith(ours)
    }


def is_published(folder: Path) -> bool:
    """Whether a folder is one of published files."""
    return (folder / "encoder.pth").exists() or (folder / "depth.pth").exists()


def describe_published(folder: Path) -> list[str]:
    """Reads the settings of the model from published files.

    Returns:
        Overrides for `load_config`; the precision is float32, as published.

    Raises:
        WeightsError: if encoder.pth is missing, damaged, or not the encoder of a published model.
    """
    path = folder / "encoder.pth"
    state = read_weights(path)
    num_layers = find_num_layers(strip_prefix(state, "encoder."))
    lacking = [key for key in SETTINGS if not isinstance(state.get(key), int)]
    if num_layers is None or lacking:
        what = f"no valid {', '.join(lacking)}" if lacking else "not the layers of a ResNet"
        raise WeightsError(f"{path} has {what}; expected the encoder of a published model")
    has_pose = any((folder / f"{name}.pth").exists() for name in POSE_NETWORKS)
    is_stereo_only = state["use_stereo"] and not has_pose
    return [
        f"network.num_layers={num_layers}",
        f"data.frame_offsets={'[]' if is_stereo_only else '[-1,1]'}",
        *(f"data.{key}={state[key]}" for key in SETTINGS),
        "precision.dtype=fp32",
    ]


def _check_finite(model: MonodepthModel) -> None:
    broken = [name for name, value in model.state_dict().items() if not value.isfinite().all()]
    if broken:
        raise WeightsError(
            f"{len(broken)} tensors of the model have values that are not finite, first "
            f"{broken[0]}; export another checkpoint"
        )


def _networks_of(model: MonodepthModel) -> dict[str, nn.Module]:
    children = dict(model.named_children())
    return {name: children[name] for name in NETWORKS if name in children}


def _check_pose_files(model: MonodepthModel, folder: Path) -> None:
    """Refuses files of a stereo model, which has no pose network, for a model that has one."""
    expected = [f"{name}.pth" for name in POSE_NETWORKS if name in _networks_of(model)]
    if expected and not any((folder / name).exists() for name in expected):
        raise WeightsError(
            f"{folder} has no pose network (it was trained on stereo alone), but this model "
            f"has one: expected {' and '.join(expected)}; set data.frame_offsets=[] "
            "data.use_stereo=true, or use other weights"
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
