"""The largest micro-batch that fits is found in few trials, and none is tried far beyond it."""

import os
import signal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from md2dist.benchmarks import batch_search
from md2dist.benchmarks.batch_search import Trial, attempt, find_batch, search_largest
from md2dist.config import load_config
from md2dist.errors import ConfigError, MachineLimitError

MB = 1_000_000
SMALL = ["data.height=64", "data.width=96", "data.use_stereo=true", "network.weights=scratch"]


class Device:
    """Memory that grows by `growth` per sample, and by up to `noise` more.

    Of the `shown` bytes, only those up to the limit can be had; the peaks that are shown are larger
    than what is needed by the factor `cached`.
    """

    def __init__(self, base, growth, noise, limit, shown=None, cached=1.0):
        self._base, self._growth, self._noise, self._limit = base, growth, noise, limit
        self._shown, self._cached = shown or limit, cached
        self.tried = []

    def peak(self, size):
        return self._base + self._growth * size + self._noise * (size % 3) // 2

    def attempt(self, size):
        assert size not in self.tried
        self.tried.append(size)
        if self.peak(size) > self._limit:
            return None
        peak = min(int(self.peak(size) * self._cached), self._shown)
        return Trial(size, peak, self._shown, 1.0)


@given(
    base=st.integers(0, 3000 * MB),
    growth=st.integers(20 * MB, 900 * MB),
    limit=st.integers(1000 * MB, 80_000 * MB),
)
def test_the_largest_size_is_found_where_memory_grows_linearly(base, growth, limit):
    device = Device(base, growth, 0, limit)
    sizes = [trial.size for trial in search_largest(device.attempt)]
    largest = max((limit - base) // growth, 0)
    assert sizes == sorted(sizes)
    assert (sizes or [0])[-1] == min(largest, 4096)
    assert len(device.tried) <= 16
    assert max(device.tried) <= max(largest * 33 // 32 + 1, 2)


@given(growth=st.integers(50 * MB, 900 * MB), limit=st.integers(2000 * MB, 80_000 * MB))
def test_with_noise_what_is_found_fits_and_misses_little(growth, limit):
    device = Device(500 * MB, growth, growth // 2, limit)
    found = search_largest(device.attempt)
    assert device.peak(found[-1].size) <= limit
    assert device.peak(found[-1].size + 1) > limit
    assert len(device.tried) <= 20


def test_memory_that_the_search_did_not_foresee_ends_in_a_bisection():
    device = Device(0, 100 * MB, 0, 2_050 * MB, shown=10_000 * MB)  # others need the rest
    assert search_largest(device.attempt)[-1].size == 20
    assert 21 in device.tried


def test_memory_that_a_gpu_only_caches_does_not_end_the_search():
    device = Device(500 * MB, 100 * MB, 0, 8_300 * MB, cached=1.5)
    assert search_largest(device.attempt)[-1].size == 78
    assert len(device.tried) <= 30


def tell_process(config, size, num_steps, limit):
    return Trial(os.getpid(), size, num_steps, limit)


def run_out_of_memory(config, size, num_steps, limit):
    raise [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUDA error: out of memory"),
           RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"), MemoryError()][size]  # fmt: skip


def end_early(config, size, num_steps, limit):
    os.kill(os.getpid(), size)


def refuse(config, size, num_steps, limit):
    raise ConfigError(f"{limit} bytes are too many")


@pytest.mark.slow
def test_a_trial_is_another_process_and_says_how_it_ended():
    trial = attempt(tell_process, None, 2, 3, 4)
    assert trial[1:] == (2, 3, 4)
    assert trial.size != os.getpid()
    assert [attempt(run_out_of_memory, None, number, 1, None) for number in range(4)] == [None] * 4
    assert attempt(end_early, None, int(signal.SIGKILL), 1, None) is None
    with pytest.raises(MachineLimitError, match="micro-batches of 11 ended with exit code -11"):
        attempt(end_early, None, int(signal.SIGSEGV), 1, None)
    with pytest.raises(ConfigError, match="5 bytes are too many"):
        attempt(refuse, None, 1, 1, 5)


@pytest.mark.slow
def test_each_size_is_trained_in_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr(batch_search, "_MOST", 1)
    config = load_config([], [*SMALL, "optim.micro_batch_size=7", "optim.global_batch_size=21"])
    (row,) = find_batch(config, 1, num_ranks=8, memory_gib=4.0)
    assert (row["micro_batch_size"], row["global_batch_size"]) == (1, 8)
    assert row["learning_rate"] == pytest.approx(1e-4 * 8 / 12)
    assert 0.2 < row["peak_memory_gib"] < 4
    assert row["samples_per_second_per_rank"] > 0
    with pytest.raises(MachineLimitError, match=r"one sample does not fit into 0\.05 GiB"):
        find_batch(config, 1, num_ranks=8, memory_gib=0.05)


def test_several_ranks_of_a_launcher_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="--find-batch is started as one process"):
        find_batch(load_config([], SMALL), 1, num_ranks=1, memory_gib=None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"num_steps": 0}, "0 timed repetitions; expected >= 1"),
        ({"num_ranks": 0}, "--num-ranks 0: expected a finite number > 0"),
        ({"memory_gib": -1.0}, r"--memory-gib -1\.0: expected a finite number > 0"),
        ({"memory_gib": float("inf")}, "--memory-gib inf: expected a finite number > 0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        find_batch(
            load_config([], SMALL), **{"num_steps": 1, "num_ranks": 1, "memory_gib": 1} | words
        )
