import pytest

from md2dist.distributed.srun import srun_names

# As srun has set them for the last task of `srun --ntasks 5` on nodes with 3 and 2 of them.
SECOND_NODE = {
    "SLURM_JOB_ID": "1234",
    "SLURM_STEP_ID": "1",
    "SLURM_PROCID": "4",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_NTASKS": "99",
    "SLURM_STEP_NUM_TASKS": "5",
    "SLURM_STEP_TASKS_PER_NODE": "3,2",
    "SLURM_STEP_NODELIST": "node[03-04]",
}


def test_a_task_reads_its_rank_and_the_master_address():
    assert srun_names(SECOND_NODE) == {
        "RANK": "4",
        "LOCAL_RANK": "1",
        "GROUP_RANK": "1",
        "WORLD_SIZE": "5",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "node03",
        "MASTER_PORT": "29745",
    }


def test_a_batch_script_is_no_task():
    names = {name: value for name, value in SECOND_NODE.items() if "STEP" not in name}
    assert srun_names(names) == {}


def test_a_single_task_needs_no_master_address():
    alone = {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_NODEID": "0"}
    assert "MASTER_ADDR" not in srun_names(SECOND_NODE | alone)


@pytest.mark.parametrize(
    ("text", "node", "count"),
    [("2(x2)", 1, "2"), ("8(x3),1", 2, "8"), ("8(x3),1", 3, "1"), ("1,4(x2)", 0, "1")],
)
def test_tasks_per_node_are_counted_in_slurms_notation(text, node, count):
    changed = {"SLURM_STEP_TASKS_PER_NODE": text, "SLURM_NODEID": str(node)}
    assert srun_names(SECOND_NODE | changed)["LOCAL_WORLD_SIZE"] == count


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu7", "gpu7"),
        ("a1,b2", "a1"),
        ("node[03-05,07],login", "node03"),
        ("rack[0-1]node[3-5]", "rack0node3"),
        ("127.0.0.[1-2]", "127.0.0.1"),
    ],
)
def test_all_meet_at_the_first_node_of_a_list_in_slurms_notation(nodes, first):
    assert srun_names(SECOND_NODE | {"SLURM_STEP_NODELIST": nodes})["MASTER_ADDR"] == first


def test_steps_and_jobs_side_by_side_meet_at_different_ports():
    ports = {
        srun_names(SECOND_NODE | {"SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(step)})[
            "MASTER_PORT"
        ]
        for job in range(98765, 98865)
        for step in range(4)
    }
    assert len(ports) == 400
    assert all(10000 <= int(port) < 30000 for port in ports)
