"""Models of timm as backbones: names, construction and pretrained weights, by timm's public API."""

from contextlib import suppress
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from md2dist.errors import ConfigError, WeightsError

TIMM = "timm:"  # beginning of a `network.encoder`


def create_backbone(name: str, height: int, width: int) -> nn.Module:
    """Builds a model of timm that returns its features, with random weights.

    Args:
        name: name of the model, such as convnext_tiny; no file is read for it.
        height: rows of the images, for models that are built for one size.
        width: columns of the images.

    Raises:
        ConfigError: if timm is missing, or knows no such model, or cannot build it this way.
    """
    timm = _import_timm(name)
    known = [*timm.list_models(), *timm.list_models(pretrained=True)]  # the second with tags
    if name not in known:
        nearest = ", ".join(TIMM + other for other in get_close_matches(name, known, cutoff=0.4))
        raise ConfigError(
            f"network.encoder={TIMM}{name}: timm {timm.__version__} has no such model; "
            + (f"the nearest are {nearest}" if nearest else "timm.list_models() lists all")
        )
    try:
        return _create(timm, name, height, width)
    except Exception as error:  # of any kind, and for many reasons
        raise ConfigError(
            f"network.encoder={TIMM}{name} cannot be built for images of {height}x{width}: "
            f"{_first_line(error)}; use a model of timm with features at strides 4, 8, 16 and 32"
        ) from None


def pretrained_weights(name: str, height: int, width: int) -> dict[str, torch.Tensor]:
    """Returns timm's pretrained weights of a backbone, of any shape; downloaded once.

    Args:
        name: as for `create_backbone`, which has built the model already.
        height: rows of the images, to which timm adapts weights that depend on it.
        width: columns of the images.

    Raises:
        WeightsError: if timm has none, or they cannot be downloaded.
    """
    try:
        model = _create(_import_timm(name), name, height, width, pretrained=True)
    except Exception as error:  # of timm, huggingface_hub or the network
        raise WeightsError(
            f"the weights of {TIMM}{name} cannot be loaded: {_first_line(error)}; set "
            "network.weights=scratch, or copy the cache of huggingface_hub (HF_HOME) from a "
            "machine that has downloaded them, and set HF_HUB_OFFLINE=1"
        ) from None
    return model.state_dict()


def _import_timm(name: str) -> Any:
    """Imports timm late: it takes seconds."""
    key = f"network.encoder={TIMM}{name}"
    if find_spec("timm") is None:
        raise ConfigError(f'{key} needs timm: pip install -c constraints.txt -e ".[timm]"')
    try:
        import timm  # pyright: ignore[reportMissingImports]
    except Exception as error:  # a torchvision that does not fit torch raises a RuntimeError
        raise ConfigError(
            f"{key} needs timm, which cannot be imported: {_first_line(error)}; install the "
            f"torchvision that belongs to torch {torch.__version__}, which timm needs"
        ) from None
    return timm


def _create(timm: Any, name: str, height: int, width: int, pretrained: bool = False) -> nn.Module:
    """Builds a backbone; one that is made for a fixed size, for this size if timm can."""
    options: dict[str, Any] = {"features_only": True, "pretrained": pretrained}
    if timm.get_pretrained_cfg(name).fixed_input_size:
        with suppress(Exception):  # else it may still take images of any size
            return timm.create_model(name, img_size=(height, width), **options)
    return timm.create_model(name, **options)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".;: ") if lines else type(error).__name__
