"""Variables of mpirun under the names that torch.distributed reads."""

import zlib
from collections.abc import Mapping
from typing import NamedTuple

from md2dist.errors import ConfigError

_FIRST_PORT, _NUM_PORTS = 10000, 20000  # below the ports of outgoing connections


class MpiNames(NamedTuple):
    """Variables of an MPI implementation."""

    rank: str
    local_rank: str
    world_size: str
    node_size: str


_OPEN_MPI = MpiNames(
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_LOCAL_SIZE",
)
_MVAPICH = MpiNames(
    "MV2_COMM_WORLD_RANK",
    "MV2_COMM_WORLD_LOCAL_RANK",
    "MV2_COMM_WORLD_SIZE",
    "MV2_COMM_WORLD_LOCAL_SIZE",
)
_MPICH = MpiNames("PMI_RANK", "MPI_LOCALRANKID", "PMI_SIZE", "MPI_LOCALNRANKS")  # and Intel MPI
# Launchers without variables for the place on the node: rank and size.
_OTHERS = (("PMI_RANK", "PMI_SIZE"), ("FLUX_TASK_RANK", "FLUX_JOB_SIZE"), ("PMIX_RANK", ""))


def find_mpi(environment: Mapping[str, str]) -> MpiNames | None:
    """Returns the variables of the mpirun that started this process, if one did."""
    for names in (_OPEN_MPI, _MVAPICH, _MPICH):
        if all(name in environment for name in names):
            return names
    return None


def mpirun_names(environment: Mapping[str, str], job: str) -> dict[str, str]:
    """Translates the variables of mpirun.

    Args:
        environment: environment of this process, without empty variables.
        job: name that the ranks of one job share, those of two jobs on a node do not.

    Returns:
        RANK, LOCAL_RANK, WORLD_SIZE and LOCAL_WORLD_SIZE; if all ranks are on one node MASTER_ADDR
        and MASTER_PORT as well. Empty without mpirun.
    """
    mpi = find_mpi(environment)
    if mpi is None:
        return {}
    names = {
        "RANK": environment[mpi.rank],
        "LOCAL_RANK": environment[mpi.local_rank],
        "WORLD_SIZE": environment[mpi.world_size],
        "LOCAL_WORLD_SIZE": environment[mpi.node_size],
    }
    if names["WORLD_SIZE"] == names["LOCAL_WORLD_SIZE"]:
        names["MASTER_ADDR"] = "127.0.0.1"
        names["MASTER_PORT"] = str(_FIRST_PORT + zlib.crc32(job.encode()) % _NUM_PORTS)
    return names


def refuse_unknown_launcher(environment: Mapping[str, str]) -> None:
    """Refuses a process that a launcher started whose variables do not suffice.

    Each of its processes would train alone.

    Raises:
        ConfigError: naming the launcher's variable.
    """
    for rank, size in _OTHERS:
        if rank in environment and environment.get(size) != "1":
            raise ConfigError(
                f"the environment has {rank}={environment[rank]}, but neither RANK nor the number "
                "of ranks on this node; start them with deepspeed, torchrun, srun or mpirun, or "
                "set RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT"
            )
