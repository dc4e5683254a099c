"""Devices of the ranks."""

import os
from pathlib import Path

import torch

from md2dist.distributed.world import World


def describe_devices(world: World) -> str:
    """Describes the devices of all ranks, assuming that they are the same."""
    is_cuda = world.device.type == "cuda"
    name = torch.cuda.get_device_name(world.device) if is_cuda else "CPU"
    return f"{world.world_size} x {name}, {world.node_size} on this node"


def has_unusable_gpu(device: torch.device) -> bool:
    """Whether the machine has a GPU that torch does not find, though no variable hides it."""
    is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return device.type == "cpu" and not is_hidden and Path("/dev/nvidiactl").exists()


def advise_on_gpu(device: torch.device) -> str | None:
    """Returns advice if torch does not find the machine's GPU."""
    if not has_unusable_gpu(device):
        return None
    return (
        f"this machine has a GPU, but torch {torch.__version__} does not find it, and training on "
        "the CPU takes many times as long: check that the job was allocated the GPU, and that "
        "torch is a CUDA build that fits the driver"
    )
