"""Distributed training of Monodepth2: self-supervised depth from video and stereo on KITTI.

    import md2dist

    prediction = md2dist.load_model("runs/mono_stereo").predict(image)

The public names are imported on first use, so `import md2dist` itself loads nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from md2dist.config import load_config
    from md2dist.data.shards.dataset import ShardDataset
    from md2dist.model import MonodepthModel
    from md2dist.weights.loading import load_model

__all__ = ["MonodepthModel", "ShardDataset", "load_config", "load_model"]

_MODULES = {
    "MonodepthModel": "md2dist.model",
    "ShardDataset": "md2dist.data.shards.dataset",
    "load_config": "md2dist.config",
    "load_model": "md2dist.weights.loading",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'md2dist' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
