"""Golden tensors: seeded weights for a model, and the batch from which they were computed."""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from helpers.device import current_device

from md2dist.config import load_config
from md2dist.model import MonodepthModel
from md2dist.records import Batch

POSE_LAYERS = {"squeeze": "net.0", "conv1": "net.1", "conv2": "net.2", "head": "net.3"}


def published_key(network: str, key: str) -> str:
    """Maps the key of one of our tensors to its key in the network's published file."""
    layer, _, rest = key.partition(".")
    if network in ("encoder", "pose_encoder"):
        return f"encoder.{key}"
    if network == "pose":
        return f"{POSE_LAYERS[layer]}.{rest}"
    index, _, name = rest.partition(".")
    if layer == "heads":
        return f"decoder.{10 + int(index)}.conv.{name}"
    return f"decoder.{2 * int(index) + (layer == 'after')}.conv.conv.{name}"


def fill_golden_weights(model: MonodepthModel, seed: int) -> None:
    """Sets all weights and running statistics by the rule in the golden tensors' README."""
    for network, module in model.named_children():
        for key, tensor in module.state_dict().items():
            tensor.copy_(_golden_tensor(f"{network}.{published_key(network, key)}", tensor, seed))


def _golden_tensor(name: str, like: torch.Tensor, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(zlib.crc32(f"{seed}:{name}".encode()))
    noise = rng.standard_normal(tuple(like.shape))
    if name.endswith("num_batches_tracked"):
        noise = np.zeros_like(noise)
    elif name.endswith("running_var"):
        noise = 1 + 0.1 * np.abs(noise)
    elif like.dim() >= 2:
        noise = noise * np.sqrt(2 / np.prod(like.shape[1:]))
    elif name.endswith("weight"):
        noise = 1 + 0.1 * noise
    else:
        noise = 0.01 * noise
    return torch.tensor(np.asarray(noise, dtype=np.float32))


class Golden:
    """One golden file: its tensors, a model with its weights, and the batch."""

    def __init__(self, path: Path, dtype: torch.dtype = torch.float64, precision: str = "fp32"):
        self.tensors = np.load(path)
        meta = json.loads(str(self.tensors["meta"]))
        self.is_mono = meta["mode"] == "mono"
        self.sources = ("-1", "1") if self.is_mono else ("s",)
        self.dtype = dtype
        config = load_config(
            [],
            [
                "data.height=64",
                "data.width=96",
                f"data.frame_offsets={'[-1,1]' if self.is_mono else '[]'}",
                f"data.use_stereo={not self.is_mono}",
                f"network.num_layers={meta['num_layers']}",
                "network.weights=scratch",
                "loss.tie_noise=0",
                f"precision.dtype={precision}",
            ],
        )
        self.model = MonodepthModel.from_config(config)
        fill_golden_weights(self.model, meta["seed"])
        self.model.to(current_device(), dtype)

    def __getitem__(self, key: str) -> torch.Tensor:
        return torch.tensor(self.tensors[key])

    def batch(self) -> Batch:
        target = self._image("0")
        sources = torch.stack([self._image(name) for name in self.sources], 1)
        height, width = target.shape[-2:]
        K = self["K_normalised"][:3, :3] * torch.tensor([[width], [height], [1.0]])
        num = len(target)
        T_stereo = torch.eye(4).expand(num, 4, 4) if self.is_mono else self["stereo_T"]
        return Batch(
            target,
            target,
            sources,
            sources,
            K.expand(num, 3, 3).to(self.dtype),
            T_stereo.to(self.dtype),
            torch.arange(num),
        )

    def _image(self, name: str) -> torch.Tensor:
        return self[f"image_{name}"].to(self.dtype) / 255
