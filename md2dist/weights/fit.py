"""Fit of weights to a network: names as training scripts leave them, shapes, types and values."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from md2dist.errors import WeightsError
from md2dist.networks.encoders import Encoder
from md2dist.networks.resnet import ARCHITECTURES, Bottleneck, ResNetEncoder
from md2dist.networks.timm_encoder import TimmEncoder
from md2dist.weights.files import describe_tensor

WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys under which scripts save weights
_PARTS = ("module", "_orig_mod")  # added to names by DataParallel and torch.compile
_COUNTS = ("total_ops", "total_params")  # left in a model by a counter of its operations
_NUM_LISTED = 8


def tidy(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Returns weights by the names that their network gives them.

    Takes them out of a checkpoint such as ``{"state_dict": ...}``, removes ``module.`` and
    ``_orig_mod.`` from names, and drops what a counter of operations left.

    Args:
        content: content of a file.
        path: the file, for messages.

    Raises:
        WeightsError: if two weights have the same name.
    """
    for key in WRAPPERS:
        if isinstance(content.get(key), dict):
            settings = {name: entry for name, entry in content.items() if is_number(entry)}
            content = settings | {str(name): entry for name, entry in content[key].items()}
    tidied: dict[str, Any] = {}
    for name, entry in content.items():
        parts = [part for part in name.split(".") if part not in _PARTS]
        if parts and parts[-1] not in _COUNTS:
            if (short := ".".join(parts)) in tidied:
                raise WeightsError(f"{path} has two weights {short}; expected each once")
            tidied[short] = entry
    return tidied


def is_number(entry: Any) -> bool:
    """Whether an entry of a file is a plain value, not weights."""
    return isinstance(entry, int | float | str)


def check_state_dict(
    state: dict[str, Any],
    expected: dict[str, torch.Tensor],
    path: Path,
    optional: Collection[str] = (),
) -> dict[str, torch.Tensor]:
    """Compares names, shapes and types of weights with those of a network, and checks their values.

    Args:
        state: weights of a file; plain values beside them are ignored, such as an epoch.
        expected: weights of the network, of any shape, under the file's names.
        path: the file, for messages.
        optional: names that may be missing, beside the counters of batch norm.

    Returns:
        The weights.

    Raises:
        WeightsError: naming the entries that are missing, unexpected, or of another shape or type,
            or that are not finite or negative variances once converted to the network's type.
    """
    shared = [name for name in expected if name in state]
    missing = [
        name
        for name in expected
        if name not in state
        and name not in optional
        and not name.endswith("num_batches_tracked")  # unused; torch < 0.4.1 saved none
    ]
    unexpected = [
        name for name, entry in state.items() if name not in expected and not is_number(entry)
    ]
    misfits = {
        "missing": shorten(missing, expected),
        "unexpected": shorten(unexpected, {*state, *expected}),
        "of another shape": [
            f"{name} {_shape_of(state[name])} instead of {tuple(expected[name].shape)}"
            for name in shared
            if getattr(state[name], "shape", None) != expected[name].shape
        ],
    }
    if any(misfits.values()):
        counts = {"missing": len(missing), "unexpected": len(unexpected)}
        raise WeightsError(
            f"{path} does not fit this model: {list_faults(misfits, counts)}; "
            "it belongs to another network or configuration"
        )
    other_types = [
        f"{name} {describe_tensor(state[name])}"
        for name in shared
        if not _converts(state[name], expected[name])
    ]
    if other_types:
        faults = list_faults({"of another type": other_types})
        raise WeightsError(f"{path} does not fit this model: {faults}; expected dense floats")
    converted = {name: state[name].to(expected[name].dtype) for name in shared}
    faults = {
        "not finite": list_not_finite(converted),
        "negative variances": [
            name for name in shared if name.endswith("running_var") and (converted[name] < 0).any()
        ],
    }
    if any(faults.values()):
        raise WeightsError(f"{path} is damaged: {list_faults(faults)}; use other weights")
    return converted


def list_not_finite(tensors: Mapping[str, Any]) -> list[str]:
    """Lists the names of tensors with a NaN or infinity; a single transfer from their device."""
    floats = {
        name: tensor
        for name, tensor in tensors.items()
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point()
    }
    flags = [torch.isfinite(tensor).all() for tensor in floats.values()]
    are_finite = torch.stack(flags).tolist() if flags else []
    return [name for name, is_finite in zip(floats, are_finite, strict=True) if not is_finite]


def list_faults(kinds: dict[str, list[str]], counts: Mapping[str, int] = {}) -> str:
    """Returns number, kind and names of faulty entries, given their names by kind."""
    return "; ".join(
        f"{counts.get(kind, len(names))} {kind} ({', '.join(names[:_NUM_LISTED])}"
        f"{', ...' if len(names) > _NUM_LISTED else ''})"
        for kind, names in kinds.items()
        if names
    )


def shorten(names: Collection[str], among: Collection[str]) -> list[str]:
    """Names groups of weights by their common beginning, such as ``layer4.*``.

    Args:
        names: the weights.
        among: all weights; a group has none that is not one of `names`.
    """
    others = set(among) - set(names)
    taken = {".".join(name.split(".")[:n]) for name in others for n in range(name.count(".") + 1)}
    short = []
    for name in names:
        parts = name.split(".")
        beginnings = (".".join(parts[:n]) for n in range(1, len(parts)))
        beginning = next((start for start in beginnings if start not in taken), None)
        group = [other for other in names if beginning and other.startswith(f"{beginning}.")]
        short.append(f"{beginning}.*" if len(group) > 1 else name)
    return list(dict.fromkeys(short))


def check_architecture(names: Collection[str], encoder: Encoder, path: Path) -> None:
    """Raises a WeightsError if weights of an encoder, by their names, belong to another kind."""
    found = find_num_layers(names)
    is_timm = any(name.startswith("backbone.") for name in names)
    is_pose = isinstance(encoder, ResNetEncoder) and encoder.num_images > 1
    if found is None and not is_timm:
        return  # `check_state_dict` lists what does not fit
    if isinstance(encoder, TimmEncoder):
        if is_timm:
            return
        remedy = f"network.encoder=resnet network.num_layers={found}"
    elif is_timm:
        remedy = "network.encoder as in the run that it comes from"
    elif found == encoder.num_layers:
        return
    else:
        remedy = f"network.{'pose_' * is_pose}num_layers={found}"
    raise WeightsError(
        f"{path} is a {'timm model' if is_timm else f'ResNet-{found}'}; the {'pose ' * is_pose}"
        f"encoder of this model is a {encoder.name}: set {remedy}, or use other weights"
    )


def find_num_layers(names: Collection[str]) -> int | None:
    """Returns the depth of the ResNet with these parameter names; None if it is not a ResNet."""
    num_blocks = tuple(
        len({name.split(".")[1] for name in names if name.startswith(f"layer{stage}.")})
        for stage in (1, 2, 3, 4)
    )
    is_bottleneck = "layer1.0.conv3.weight" in names
    for num_layers, (block, expected) in ARCHITECTURES.items():
        if num_blocks == expected and is_bottleneck == (block is Bottleneck):
            return num_layers
    return None


def strip_prefix(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Returns the entries whose names start with the prefix, without it."""
    return {
        name.removeprefix(prefix): entry for name, entry in state.items() if name.startswith(prefix)
    }


def _converts(tensor: torch.Tensor, expected: torch.Tensor) -> bool:
    """Returns whether a tensor of any shape holds plain numbers that its network can take over."""
    is_number = not tensor.is_complex() and tensor.dtype != torch.bool
    is_wide = tensor.is_floating_point() >= expected.is_floating_point()
    is_dense = tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_meta
    return is_dense and is_number and is_wide


def _shape_of(entry: Any) -> str:
    return str(tuple(entry.shape)) if isinstance(entry, torch.Tensor) else type(entry).__name__
