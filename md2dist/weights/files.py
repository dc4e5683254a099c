"""Weight files: reading them without executing code of theirs."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from warnings import catch_warnings, simplefilter
from zipfile import ZIP_STORED, BadZipFile, ZipFile, is_zipfile

import torch

from md2dist.errors import WeightsError
from md2dist.weights.file_kinds import describe_foreign, is_safetensors
from md2dist.weights.numpy_numbers import NUMBERS

StandIn = tuple[Callable, str]  # used for the class or function of this name in a file


def read_weights(
    path: Path, use_mmap: bool = False, stand_ins: Sequence[StandIn] = ()
) -> dict[str, Any]:
    """Reads a dictionary written by `torch.save` or safetensors, onto the CPU.

    Nothing in the file is executed. Numbers of NumPy become Python's.

    Args:
        path: the file.
        use_mmap: load tensors when they are used, without comparing the file with the checksums
            that torch wrote into it; not for files of torch < 1.6.
        stand_ins: replacements for further classes that the file refers to.

    Raises:
        WeightsError: if the file is missing or damaged, refers to code, or is no such dictionary.
    """
    if not path.is_file():
        raise WeightsError(f"no weight file {path}; check the path")
    try:
        if foreign := describe_foreign(path):
            raise WeightsError(f"{path} is not a weight file: it is {foreign}")
        if is_safetensors(path):
            return _read_safetensors(path)
        if not use_mmap and is_zipfile(path):
            _check_members(path)
        with torch.serialization.safe_globals([*NUMBERS, *stand_ins]), catch_warnings():
            simplefilter("ignore")  # torch on pickles of a protocol that it does not read
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=use_mmap)
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read: {error.strerror or error}; check its permissions"
        ) from None
    except WeightsError:
        raise
    except Exception as error:  # a damaged pickle may raise any exception
        raise WeightsError(f"{path} {_explain(error)}") from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise WeightsError(f"{path} has no state dict; expected weights by name")
    return content


def is_plain(value: Any, dtype: torch.dtype | None = None) -> bool:
    """Whether a value is a dense tensor, whose numbers fill its memory without gaps or overlaps.

    Args:
        value: anything.
        dtype: expected type; None: any.
    """
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
        return False
    if value.is_quantized or value.is_meta or value.is_nested:
        return False
    is_last = value.dim() == 4 and value.is_contiguous(memory_format=torch.channels_last)
    return (value.is_contiguous() or is_last) and dtype in (None, value.dtype)


def describe_tensor(value: Any) -> str:
    """Describes type, shape and layout of a value, for messages."""
    if not isinstance(value, torch.Tensor):
        return type(value).__name__
    layout = "" if is_plain(value) else "not dense "
    return f"{layout}{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"


def _explain(error: Exception) -> str:
    """Explains an error of `torch.load`, whose own texts advise to execute the file's code."""
    if match := re.search(r"GLOBAL (\S+)", str(error)):
        return (
            f"refers to {match[1][:80]}, which could run code; expected tensors by name, as "
            "torch.save(model.state_dict(), PATH) writes"
        )
    reason = str(error).partition("\n")[0]
    if isinstance(error, UnpicklingError) or "weights_only" in reason:
        reason = "its pickle cannot be read"
    return f"is damaged or not a weight file: {reason}; copy or download it again"


def _read_safetensors(path: Path) -> dict[str, Any]:
    """Reads tensors, and the texts of the header that are settings, such as height."""
    try:
        from safetensors import safe_open  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise WeightsError(
            f"{path} is in the format safetensors; install the package safetensors to read it"
        ) from None
    with safe_open(path, framework="pt") as file:
        names, settings = file.keys(), file.metadata() or {}
        return {name: file.get_tensor(name) for name in names} | {
            name: value for name, value in settings.items() if name not in names
        }


def _check_members(path: Path) -> None:
    """Compares every member of a file with its CRC-32, which torch itself does not do.

    Raises:
        BadZipFile: if one differs, or is compressed: it may be larger than memory.
    """
    with ZipFile(path) as archive:
        for member in archive.infolist():
            if member.compress_type != ZIP_STORED:
                raise BadZipFile("its members are compressed, as torch does not write them")
            if member.CRC:  # 0 in files that torch wrote without checksums
                with archive.open(member) as stream:
                    while stream.read(1 << 20):
                        pass
