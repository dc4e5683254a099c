import os
import subprocess
import sys

import pytest

from md2dist.distributed.launcher import Launch, read_launch
from md2dist.errors import ConfigError

RANKS = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
MASTER = {"MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "PMIX_NAMESPACE": "prterun-node1-1234@1",
    "PMIX_RANK": "3",
}
MPICH = {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}


def test_without_variables_a_process_is_alone():
    assert read_launch({}) == Launch()


def test_empty_variables_count_as_unset():
    names = dict.fromkeys([*RANKS, *MASTER, "SLURM_STEP_ID", *OPEN_MPI], "")
    assert read_launch(names) == Launch()


def test_the_variables_of_torch_give_place_and_address():
    assert read_launch(RANKS | MASTER) == Launch(1, 1, 2, 2, "node1", 29500, is_launched=True)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"MASTER_PORT": "abc"}, "MASTER_PORT=abc, expected a whole number from 1 to 65535"),
        ({"MASTER_PORT": "65536"}, "MASTER_PORT=65536"),
        ({"MASTER_PORT": ""}, "MASTER_PORT .* is not set"),
        ({"MASTER_ADDR": " "}, "MASTER_ADDR .* is not set"),
        ({"RANK": ""}, "one of 2 processes, but RANK .* is not set"),
        ({"RANK": "2"}, "RANK=2, expected a whole number from 0 to 1, as WORLD_SIZE=2"),
        ({"RANK": "-1"}, "RANK=-1"),
        ({"RANK": "1.0"}, "RANK=1.0"),
        ({"RANK": "9" * 5000}, "RANK=9999"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0, expected a whole number >= 1"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK=x"),
        ({"LOCAL_RANK": "2"}, "LOCAL_RANK=2, expected a whole number from 0 to 1"),
    ],
)
def test_an_impossible_variable_is_named_with_what_was_expected(changed, message):
    with pytest.raises(ConfigError, match=message) as caught:
        read_launch(RANKS | MASTER | changed)
    assert len(str(caught.value)) < 300


def test_the_variables_of_mpirun_are_read_but_those_of_torch_take_precedence():
    launch = read_launch(OPEN_MPI | MASTER)
    assert launch[:6] == (3, 1, 4, 2, "node1", 29500)
    assert launch.job == "mpirun prterun-node1-1234@1"
    assert read_launch(OPEN_MPI | RANKS | MASTER)[:4] == (1, 1, 2, 2)
    with pytest.raises(ConfigError, match="MASTER_ADDR"):  # two nodes, and none is known
        read_launch(OPEN_MPI)


def test_on_one_node_mpirun_needs_no_address_and_its_jobs_have_different_ports():
    alone = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}
    first = read_launch(OPEN_MPI | alone)
    second = read_launch(OPEN_MPI | alone | {"PMIX_NAMESPACE": "prterun-node1-1235@1"})
    assert first.address == second.address == "127.0.0.1"
    assert first.port != second.port
    assert read_launch(MPICH)[:5] == (1, 1, 2, 2, "127.0.0.1")


@pytest.mark.parametrize(
    "names",
    [
        {"PMI_RANK": "0", "PMI_SIZE": "2"},
        {"FLUX_TASK_RANK": "0", "FLUX_JOB_SIZE": "2"},
        {"PMIX_RANK": "0"},
    ],
)
def test_ranks_of_an_unknown_launcher_do_not_each_train_alone(names):
    with pytest.raises(ConfigError, match=f"{next(iter(names))}=0.*set RANK"):
        read_launch(names)


def test_a_single_process_of_an_unknown_launcher_is_alone():
    assert read_launch({"PMI_RANK": "0", "PMI_SIZE": "1"}) == Launch()


def test_incomplete_variables_of_srun_are_refused():
    with pytest.raises(ConfigError, match=r"SLURM_STEP_ID, but other .* missing or damaged"):
        read_launch({"SLURM_STEP_ID": "0"})


@pytest.mark.parametrize("script", [[], ["bash", "-c", '"$@" && true', "-"]])
def test_ranks_of_one_launcher_name_it_with_or_without_a_script_between(script):
    names = RANKS | MASTER | {"CROSS_RANK": "0", "LOCAL_SIZE": "2"}
    program = (
        "import os; from md2dist.distributed.launcher import read_launch;"
        "print(read_launch(os.environ).launcher)"
    )
    launchers = {
        subprocess.check_output(
            [*script, sys.executable, "-c", program],
            env=os.environ | names | {"RANK": rank},
            text=True,
        )
        for rank in "01"
    }
    assert len(launchers) == 1
    assert launchers.pop().startswith(f"{os.getpid()} started at ")


def test_ranks_that_were_started_by_hand_have_no_launcher():
    assert read_launch(RANKS | MASTER).launcher == ""
