"""Weight files: reading them safely and checking that they fit a network."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch

from md2dist.errors import WeightsError
from md2dist.networks.resnet import ARCHITECTURES, Bottleneck


def read_weights(path: Path, use_mmap: bool = False) -> dict[str, Any]:
    """Reads a dictionary written by `torch.save`, onto the CPU, without executing its code.

    Args:
        path: the file.
        use_mmap: load tensors when they are used, without comparing the file with the checksums
            that torch wrote into it; not for files of torch < 1.6.

    Raises:
        WeightsError: if the file is missing or damaged, or is no such dictionary.
    """
    if not path.is_file():
        raise WeightsError(f"no weight file {path}; check the path")
    try:
        if not use_mmap and is_zipfile(path):
            _check_crcs(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=use_mmap)
    except Exception as error:  # a damaged pickle may raise any exception
        reason = str(error).split("\n")[0]
        raise WeightsError(
            f"{path} is damaged or not a weight file: {reason}; copy or download it again"
        ) from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise WeightsError(f"{path} has no state dict; expected weights by name")
    return content


def check_state_dict(state: dict[str, Any], expected: dict[str, torch.Tensor], path: Path) -> None:
    """Compares names, shapes and types of weights with those of a network, and checks their values.

    Args:
        state: weights of a file.
        expected: weights of the network, under the file's names.
        path: the file, for messages.

    Raises:
        WeightsError: naming the first entries that are missing, unexpected, or of another shape or
            type, or that are not finite or negative variances once converted to the network's type.
    """
    shared = [name for name in expected if name in state]
    misfits = {
        "missing": [name for name in expected if name not in state],
        "unexpected": [name for name in state if name not in expected],
        "of another shape": [
            f"{name} {_describe(state[name])} instead of {tuple(expected[name].shape)}"
            for name in shared
            if getattr(state[name], "shape", None) != expected[name].shape
        ],
    }
    if any(misfits.values()):
        raise WeightsError(
            f"{path} does not fit this model: {list_faults(misfits)}; "
            "it belongs to another network or configuration"
        )
    other_types = [
        f"{name} {state[name].dtype}"
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


def is_plain(tensor: torch.Tensor) -> bool:
    """Returns whether a tensor is dense, holds its values, and holds them as they are."""
    return tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_meta


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


def list_faults(kinds: dict[str, list[str]]) -> str:
    """Returns number, kind and first names of faulty entries, given their names by kind."""
    return "; ".join(
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in kinds.items()
        if names
    )


def check_num_layers(names: Collection[str], num_layers: int, path: Path) -> None:
    """Raises a WeightsError if the weights of an encoder belong to a ResNet of another depth."""
    found = find_num_layers(names)
    if found is not None and found != num_layers:
        raise WeightsError(
            f"{path} is a ResNet-{found}; this model is ResNet-{num_layers}: "
            f"set network.num_layers={found}"
        )


def find_num_layers(names: Collection[str]) -> int | None:
    """Returns the depth of the ResNet with these parameter names; None if it is no ResNet."""
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


def _check_crcs(path: Path) -> None:
    """Compares every member of a file with its CRC-32, which torch itself does not do.

    Raises:
        BadZipFile: if one differs.
    """
    with ZipFile(path) as archive:
        for member in archive.infolist():
            if member.CRC:  # 0 in files that torch wrote without checksums
                with archive.open(member) as stream:
                    while stream.read(1 << 20):
                        pass


def _converts(tensor: torch.Tensor, expected: torch.Tensor) -> bool:
    """Returns whether a tensor of a file holds plain numbers that its network can take over."""
    is_number = not tensor.is_complex() and tensor.dtype != torch.bool
    return (
        is_plain(tensor)
        and is_number
        and tensor.is_floating_point() >= expected.is_floating_point()
    )


def _describe(entry: Any) -> str:
    return str(tuple(entry.shape)) if isinstance(entry, torch.Tensor) else type(entry).__name__
