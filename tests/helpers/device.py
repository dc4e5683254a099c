"""The device of the numeric tests: `pytest --device cuda`."""

import sys
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode

TESTS = str(Path(__file__).parent.parent)
NUMERIC = (  # below tests/, folders and files of tests whose tensors are on the device
    "evaluation/test_baselines.py", "evaluation/test_depth_evaluation.py",
    "evaluation/test_depth_metrics.py", "evaluation/test_odometry.py", "geometry",
    "distributed/test_replicas.py", "loading/test_augment.py", "losses", "networks",
    "prediction/test_predict.py", "test_device.py", "test_golden.py", "test_model.py",
    "test_objective.py", "training/test_gradient_guard.py", "training/test_skipped_steps.py",
    "training/test_step.py", "training/test_sync_batchnorm.py", "training/test_validation.py",
    "weights",
)  # fmt: skip
FACTORIES = {
    torch.arange, torch.as_tensor, torch.empty, torch.eye, torch.full, torch.linspace, torch.ones,
    torch.rand, torch.randint, torch.randn, torch.tensor, torch.zeros,
}  # fmt: skip


def is_numeric(path: Path) -> bool:
    """Returns whether the tests of a file are numeric."""
    return any(path.is_relative_to(Path(TESTS, name)) for name in NUMERIC)


class OnDevice(TorchFunctionMode):
    """Moves the tensors that the code of the tests makes to a device.

    Only those: a default device would also catch tensors that the package forgets to put there.
    They are made on the CPU, so the random numbers are the same on all devices. Modules are made
    on the CPU, too, and are moved by the tests. `torch.from_numpy` cannot be intercepted; tests
    use `torch.tensor`.
    """

    def __init__(self, device: torch.device):
        super().__init__()
        self._device = device

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        caller = sys._getframe(1).f_code.co_filename
        if func not in FACTORIES or "device" in kwargs or not caller.startswith(TESTS):
            return result
        return result.detach().to(self._device).requires_grad_(result.requires_grad)


def current_device() -> torch.device:
    """Returns the device of the running test."""
    return torch.empty(0).device


def gradcheck(function, inputs, **options):
    """Compares gradients with finite differences; CUDA adds in any order, so it may differ."""
    first = inputs if isinstance(inputs, torch.Tensor) else inputs[0]
    tolerance = 1e-10 if first.is_cuda else 0.0
    return torch.autograd.gradcheck(function, inputs, nondet_tol=tolerance, **options)
