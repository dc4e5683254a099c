"""DeepSpeed's launcher, once per node."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import read_metrics, run_command, training_words
from helpers.running_job import RunningJob
from helpers.wandb_files import history_of, records_of

from md2dist.distributed.world import find_free_port

pytestmark = pytest.mark.slow


@pytest.fixture
def launch_words(tmp_path):
    """Returns a function: node index and number of ranks -> arguments of `deepspeed`."""
    port = find_free_port()

    def words(node, num_ranks):
        hostfile = tmp_path / "hostfile"
        hostfile.write_text(f"first slots={num_ranks}\nsecond slots={num_ranks}\n")
        options = ["--hostfile", hostfile, "--no_ssh", "--node_rank", node]
        return [*options, "--master_addr", "127.0.0.1", "--master_port", port]

    return words


def test_two_nodes_of_a_hostfile_train_as_two_ranks_of_one_node(
    two_rank_run, long_shards, launch_words, tmp_path
):
    run_dir = tmp_path / "run"
    words = [*training_words(long_shards, run_dir), "optim.max_steps=3"]

    def launch(node):
        launcher = ["deepspeed", *launch_words(node, num_ranks=1)]
        return run_command([*launcher, "launch/train.py", "--config", *words])

    with ThreadPoolExecutor() as nodes:
        for process in nodes.map(launch, range(2)):
            assert process.returncode == 0, process.stdout + process.stderr
    assert read_metrics(run_dir) == read_metrics(two_rank_run)
    assert len(read_metrics(run_dir)) == 3
    logs = sorted(path.name for path in (run_dir / "logs").glob("rank-*.log"))
    assert logs == ["rank-0.log", "rank-1.log"]


def test_when_the_first_node_is_lost_the_other_exits_with_the_reason(
    long_shards, launch_words, tmp_path
):
    run_dir = tmp_path / "run"
    words = training_words(long_shards, run_dir)
    first, second = (
        RunningJob(run_dir, words, launcher=launch_words(node, num_ranks=2), node=node)
        for node in range(2)
    )
    try:
        first.wait_until(lambda: first.status().get("step", 0) > 0)
        first.kill()
        code, output = second.wait_for_end(seconds=120)
    finally:
        first.kill()
        second.kill()
    assert code == 1
    assert output.count("error: ") == 1
    assert "error: rank 0 died or stopped responding" in output
    assert second.status()["status"] == "failed"


def test_wandb_has_the_usage_of_both_nodes(long_shards, launch_words, tmp_path):
    run_dir = tmp_path / "run"
    words = [*training_words(long_shards, run_dir), "log.wandb_mode=offline"]
    words += ["log.wandb_system=true", "log.wandb_worst=0"]
    nodes = [
        RunningJob(run_dir, words, launcher=launch_words(node, num_ranks=2), node=node)
        for node in range(2)
    ]

    def names():
        files = (run_dir / "logs" / "wandb").glob("offline-run-*/*.wandb")
        rows = (row for file in files for row in history_of(records_of(file)))
        return {name for row in rows for name in row if name.startswith("system/")}

    values = ("cpu_percent", "memory_gb")
    wanted = {f"system/node{node}/{value}" for node in range(2) for value in values}
    try:
        nodes[0].wait_until(lambda: wanted <= names())
        assert names() == wanted
    finally:
        for node in nodes:
            node.kill()
    assert "system/" not in (run_dir / "metrics.jsonl").read_text()
