"""Usage of the machines, which rank 0 collects from all ranks."""

import threading

import psutil
import pytest
import torch
import torch.distributed as dist

from md2dist.distributed.channel import Channel
from md2dist.distributed.world import World
from md2dist.runs import system_usage
from md2dist.runs.system_usage import UsageSampler, read_gpu, read_node, sampling_usage

CPU = torch.device("cpu")


@pytest.fixture
def store(monkeypatch):
    """The store of a job, with a short time between samples."""
    monkeypatch.setattr(system_usage, "_FIRST_S", 0.01)
    monkeypatch.setattr(system_usage, "_PERIOD_S", 0.01)
    return dist.HashStore()


def collect(sampler, names):
    """Waits until the main rank has values of these names; returns those values."""
    found, deadline = {}, threading.Event()
    for _ in range(3000):
        found |= sampler.take()
        if found.keys() >= names:
            return found
        deadline.wait(0.01)
    raise AssertionError(f"{found} instead of {names}")


def test_the_main_rank_has_the_usage_of_each_node_once(store, monkeypatch):
    monkeypatch.setattr(system_usage, "read_gpu", lambda device: {"memory_gb": 2.0})
    samplers = [
        UsageSampler(
            World(rank, rank % 2, 4, CPU, 2),
            f"system/node{rank // 2}/",
            has_node=rank % 2 == 0,
            connect=lambda seconds: Channel(store),
        )
        for rank in range(4)
    ]
    try:
        for sampler in samplers:
            sampler.start()
        nodes = [f"system/node{node}/" for node in (0, 1)]
        names = ("cpu_percent", "memory_gb", "gpu0_memory_gb", "gpu1_memory_gb")
        wanted = {node + name for node in nodes for name in names}
        values = collect(samplers[0], wanted)
        assert values.keys() == wanted
        assert values["system/node1/gpu1_memory_gb"] == 2.0
        assert samplers[1].take() == {}
    finally:
        for sampler in samplers:
            sampler.stop()
    samplers[0].take()
    assert samplers[0].take() == {}


def test_a_node_that_is_late_has_no_value_and_delays_nobody(store):
    channel = Channel(store)
    channel.set_usage(2, {"system/node2/cpu_percent": 7.0})
    assert channel.take_usage(3) == {"system/node2/cpu_percent": 7.0}
    assert channel.take_usage(3) == {}


def test_a_store_that_does_not_answer_costs_the_samples_of_that_time_and_nothing_else(
    store, caplog
):
    answers = iter([False, False, True])

    def connect(seconds):
        if not next(answers):
            raise dist.DistNetworkError("connection reset")
        return Channel(store)

    sampler = UsageSampler(World(0, 0, 1, CPU), "system/node0/", has_node=True, connect=connect)
    with caplog.at_level("INFO"):
        sampler.start()
        names = {"system/node0/cpu_percent", "system/node0/memory_gb"}
        assert collect(sampler, names).keys() == names
        sampler.stop()
    assert caplog.messages == []


def test_memory_in_use_is_what_programs_cannot_get():
    usage = read_node()
    total = psutil.virtual_memory().total / 1e9
    assert 0 < usage["memory_gb"] < total
    assert 0 <= usage["cpu_percent"] <= 100


@pytest.mark.parametrize("error", [ModuleNotFoundError("pynvml"), RuntimeError("NVML")])
def test_a_gpu_without_nvml_has_its_memory_and_no_warning(monkeypatch, recwarn, error):
    def refuse(device):
        raise error

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(6e9), int(8e9)))
    monkeypatch.setattr(torch.cuda, "utilization", refuse)
    assert read_gpu(torch.device("cuda", 0)) == {"memory_gb": 2.0}
    monkeypatch.setattr(torch.cuda, "utilization", lambda device: 60)
    assert read_gpu(torch.device("cuda", 0)) == {"memory_gb": 2.0, "percent": 60.0}
    assert read_gpu(CPU) == {}
    assert not recwarn.list


def test_nothing_is_sampled_unless_it_is_asked_for():
    before = threading.active_count()
    with sampling_usage(World(0, 0, 1, CPU), is_on=False) as take:
        assert take() == {}
        assert threading.active_count() == before
