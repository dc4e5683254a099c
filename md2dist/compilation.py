"""Compilation of a training step's networks and loss with torch.compile."""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from md2dist.errors import ConfigError

logger = logging.getLogger(__name__)


def choose_compilation(setting: str | bool, device: torch.device, *, is_synchronised: bool) -> bool:
    """Returns whether to compile; logs one line where `auto` does not on a GPU.

    Args:
        setting: auto, true or false; auto compiles on GPUs.
        device: device of the model.
        is_synchronised: whether batch norm waits for the other ranks, which cannot be compiled.

    Raises:
        ConfigError: if the setting is true and compiling is not possible.
    """
    if setting is False or (setting == "auto" and device.type != "cuda"):
        return False
    obstacle = _find_obstacle(device)
    if is_synchronised:
        obstacle = "network.use_sync_batchnorm=true waits for other ranks within the networks"
    if obstacle is None:
        return True
    if setting is True:
        raise ConfigError(
            f"precision.compile=true, but {obstacle}; change that, or set precision.compile=false"
        )
    logger.warning("not compiled, training is slower: %s", obstacle)
    return False


def keep_compiled_code(folder: Path) -> None:
    """Keeps compiled code in a folder, so that a restart compiles nothing.

    Folders that the environment names already stay.

    Args:
        folder: created when it is needed.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder.absolute()))
    os.environ.setdefault("TRITON_CACHE_DIR", str(folder.absolute() / "triton"))


class Compiled:
    """A function that is compiled for each set of shapes at its first call.

    Args:
        function: without random numbers, host waits and graph breaks.
        is_required: whether a failure of the compiler is an error; otherwise one line is logged,
            and the function runs as it is.
        use_cuda_graphs: replay the recorded kernels at once; its results are overwritten by the
            next call.
    """

    def __init__(
        self, function: Callable[..., Any], *, is_required: bool, use_cuda_graphs: bool = False
    ):
        import torch._functorch.config  # late: it takes a second

        # A failure to compile the backward pass shows in the forward pass; its cache takes the
        # explicit derivatives, too.
        torch._functorch.config.force_non_lazy_backward_lowering = True
        torch._functorch.config.autograd_cache_allow_custom_autograd_functions = True
        self._function, self._is_required = function, is_required
        self._use_cuda_graphs = use_cuda_graphs
        mode = "reduce-overhead" if use_cuda_graphs else None
        self._compiled = torch.compile(function, fullgraph=True, dynamic=False, mode=mode)

    def __call__(self, *arguments: Any) -> Any:
        """Calls the function.

        Raises:
            ConfigError: if compiling is required, and fails.
        """
        from torch._dynamo.exc import TorchDynamoException

        if self._use_cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()
        try:
            return self._compiled(*arguments)
        except TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            if self._is_required:
                raise ConfigError(
                    f"precision.compile=true, but compiling failed: {reason}; set "
                    "precision.compile=false"
                ) from error
            logger.warning("not compiled, training is slower: %s", reason)
            self._compiled, self._use_cuda_graphs = self._function, False
            return self._function(*arguments)


def _find_obstacle(device: torch.device) -> str | None:
    """Returns what is missing to compile for a device, if anything."""
    variable, known = "CXX", ["g++", "clang++"]
    if device.type == "cuda":
        variable, known = "CC", ["gcc", "clang"]
    compilers = [os.environ[variable]] if variable in os.environ else known
    if not any(map(shutil.which, compilers)):
        return f"no compiler is found ({' or '.join(compilers)})"
    from torch.utils._triton import has_triton

    if device.type == "cuda" and not has_triton():
        return "Triton, which torch compiles with, does not work here"
    return None
