"""DeepSpeed's launcher, once per node."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import read_metrics, run_command, training_words

from md2dist.training.world import find_free_port

pytestmark = pytest.mark.slow


def test_two_nodes_of_a_hostfile_train_as_two_ranks_of_one_node(
    two_rank_run, long_shards, tmp_path
):
    hostfile = tmp_path / "hostfile"
    hostfile.write_text("first slots=1\nsecond slots=1\n")
    meeting = ["--master_addr", "127.0.0.1", "--master_port", find_free_port()]
    run_dir = tmp_path / "run"
    words = [*training_words(long_shards, run_dir), "optim.max_steps=3"]

    def launch(node):
        launcher = ["deepspeed", "--hostfile", hostfile, "--no_ssh", "--node_rank", node]
        return run_command([*launcher, *meeting, "launch/train.py", "--config", *words])

    with ThreadPoolExecutor() as nodes:
        for process in nodes.map(launch, range(2)):
            assert process.returncode == 0, process.stdout + process.stderr
    assert read_metrics(run_dir) == read_metrics(two_rank_run)
    assert len(read_metrics(run_dir)) == 3
    assert sorted(path.name for path in (run_dir / "logs").iterdir())[:2] == [
        "rank-0.log",
        "rank-1.log",
    ]
