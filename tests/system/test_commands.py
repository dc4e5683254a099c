"""Short runs of the benchmarks, and training by its module name."""

import json
import sys

import pytest
from conftest import SMALL, read_metrics, run_command, training_words

from md2dist.distributed.world import find_free_port

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("benchmark", "words"),
    [("data", []), ("step", ["deepspeed.zero_stage=2", "optim.grad_accum_steps=2"])],
)
def test_a_benchmark_prints_a_row_and_writes_its_figures(benchmark, words, small_shards, tmp_path):
    output = tmp_path / "figures.json"
    launched = ["launch/bench.py", "--local_rank=0"]  # as deepspeed does
    words = [*launched, benchmark, "--config", "configs/mono_stereo.yaml", *words]
    settings = [*SMALL, f"data.train_shards={small_shards}", "--repeats", "1", "--output", output]
    process = run_command([sys.executable, *words, *settings])
    assert process.returncode == 0, process.stderr
    figures = json.loads(output.read_text())
    assert figures["benchmark"] == benchmark
    assert (figures["size"], figures["views"], figures["micro_batch_size"]) == ("64x64", 4, 2)
    key = "samples_per_second" + ("_per_core" if benchmark == "data" else "")
    assert figures[key] > 0
    assert process.stdout.splitlines()[-1].startswith(f"| {benchmark} | ")


@pytest.mark.parametrize(
    "launcher",
    [
        ["deepspeed", "--num_gpus", "2", "--master_port", find_free_port(), "--module"],
        ["torchrun", "--nproc-per-node", "2", "--master-port", find_free_port(), "-m"],
    ],
    ids=["deepspeed", "torchrun"],
)
def test_launchers_start_the_command_by_its_module(launcher, small_shards, tmp_path):
    words = [*training_words(small_shards, tmp_path / "run"), "optim.max_steps=2"]
    process = run_command([*launcher, "md2dist.commands.train", "--config", *words])
    assert process.returncode == 0, process.stdout + process.stderr
    assert list(read_metrics(tmp_path / "run")) == [1, 2]
