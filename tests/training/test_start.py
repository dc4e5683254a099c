"""What a start imports, and the optimizer that keeps it short."""

import subprocess
import sys

import torch

from md2dist.training.engine import EagerAdam

UNNEEDED = {"wandb", "matplotlib", "boto3", "tensorboard", "sympy", "triton", "scipy", "pandas"}
PROGRAM = """
import sys, torch, deepspeed, md2dist.training.run
from md2dist.training.engine import EagerAdam
weight = torch.ones(2, requires_grad=True)
optimizer = EagerAdam([weight], fused=True)
weight.sum().backward()
optimizer.step()
optimizer.load_state_dict(optimizer.state_dict())
print(*(name for name in sys.modules if name.count(".") <= 1))
"""


def test_the_first_step_imports_neither_the_compiler_of_torch_nor_what_other_commands_need():
    """Loader workers are forks of the process that this test starts, and import nothing more."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    modules = set(done.stdout.splitlines()[-1].split())
    assert {"torch.optim", "deepspeed.runtime"} <= modules
    assert not modules & {*UNNEEDED, "torch._dynamo", "torch._inductor"}


def test_the_optimizer_steps_as_that_of_torch_bit_for_bit_and_calls_its_hooks():
    start, calls, weights = torch.randn(3, 5), [], []
    for kind in (torch.optim.Adam, EagerAdam):
        weight = start.clone().requires_grad_()
        optimizer = kind([weight], lr=0.1, fused=True)
        optimizer.register_step_pre_hook(lambda *_, kind=kind: calls.append(kind))
        for step in range(3):
            optimizer.zero_grad()
            (weight * (step + weight)).sum().backward()
            optimizer.step()
        weights.append(weight.detach())
    assert torch.equal(*weights)
    assert calls == [torch.optim.Adam] * 3 + [EagerAdam] * 3
