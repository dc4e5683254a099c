import socket

import pytest
import torch

from md2dist.distributed.world import World
from md2dist.training.start import environment
from md2dist.training.start.checklist import Advice
from md2dist.training.start.environment import describe_port, describe_slurm

ALONE = World(0, 0, 1, torch.device("cpu"))
TWO = World(0, 0, 2, torch.device("cpu"))


def test_the_port_is_where_the_ranks_met():
    variables = {"MASTER_ADDR": "node03", "MASTER_PORT": "12345"}
    assert describe_port(TWO, variables) == "the ranks met at node03:12345"


def test_a_launcher_port_that_is_in_use_is_a_note(monkeypatch):
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(environment, "_DEFAULT_PORT", port)
        text = describe_port(ALONE)
        assert isinstance(text, Advice)
        assert f"{port}, the launchers' default, is in use" in text
    text = describe_port(ALONE)
    assert not isinstance(text, Advice)
    assert "is free" in text


@pytest.mark.parametrize(
    ("world", "variables", "expected", "is_note"),
    [
        (ALONE, {}, "not in a job", False),
        (TWO, {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}, "job 7, tasks 2", False),
        (ALONE, {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}, "start all tasks with srun", True),
        (ALONE, {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}, "job 7, restarts 1", False),
    ],
)
def test_slurm_is_described_by_its_variables(world, variables, expected, is_note):
    text = describe_slurm(world, variables)
    assert expected in text
    assert isinstance(text, Advice) == is_note
