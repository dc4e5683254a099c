"""Place of this process in its job, from the variables of its launcher."""

import os
from collections.abc import Mapping
from typing import NamedTuple

from md2dist.distributed.mpirun import find_mpi, mpirun_names, refuse_unknown_launcher
from md2dist.distributed.processes import identify_process, parent_of, read_process
from md2dist.distributed.srun import srun_names
from md2dist.errors import ConfigError

_REMEDY = "start the ranks with deepspeed, torchrun, srun or mpirun"
_MANY = 10**6


class Launch(NamedTuple):
    """Place of this process in its job, and the job itself; the default is a single process."""

    rank: int = 0  # 0 .. world_size - 1
    local_rank: int = 0  # 0 .. on this node
    world_size: int = 1
    node_size: int = 1  # ranks on this node
    address: str = ""  # host of rank 0; empty for a single process
    port: int = 0
    is_launched: bool = False  # whether a launcher started it; the process ends with it
    keeps_store: bool = False  # whether the launcher hosts the job's store, over restarts
    job: str = ""  # name that the launcher gave to the job on all nodes, if any
    node: str = ""  # number that the launcher gave to this node, if any
    launcher: str = ""  # process that started the ranks of this node, if known


def read_launch(environment: Mapping[str, str]) -> Launch:
    """Reads the variables of deepspeed, torchrun, srun or mpirun; a single process without.

    Args:
        environment: environment of this process; empty variables count as unset.

    Raises:
        ConfigError: naming a variable that is missing or has an impossible value.
    """
    given = {name: value for name, value in environment.items() if value.strip()}
    job, launcher = _name_job(given), _find_launcher(given)
    names = given
    if "RANK" not in given:  # variables that are set take precedence
        names = (mpirun_names(given, job or launcher) or srun_names(given)) | given
    if "RANK" not in names:
        refuse_unknown_launcher(given)
    world_size = _read_number(names, "WORLD_SIZE", 1, minimum=1)
    if world_size > 1:
        _check_complete(names, world_size)
    size_name = "LOCAL_WORLD_SIZE" if "LOCAL_WORLD_SIZE" in names else "LOCAL_SIZE"
    node_size = _read_number(names, size_name, 1, minimum=1)
    local_limit = node_size - 1 if size_name in names else _MANY
    launch = Launch(
        rank=_read_number(names, "RANK", 0, maximum=world_size - 1),
        local_rank=_read_number(names, "LOCAL_RANK", 0, maximum=local_limit),
        world_size=world_size,
        node_size=node_size,
        is_launched="RANK" in given,
    )
    if world_size == 1:
        return launch
    return launch._replace(
        address=names["MASTER_ADDR"].strip(),
        port=_read_number(names, "MASTER_PORT", 0, minimum=1, maximum=65535),
        keeps_store=given.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        job=job,
        node=names.get("CROSS_RANK", names.get("GROUP_RANK", "")),  # of deepspeed, torchrun
        launcher=launcher,
    )


def _check_complete(names: Mapping[str, str], world_size: int) -> None:
    for name, meaning in (
        ("RANK", f"the number of this process, from 0 to {world_size - 1}"),
        ("MASTER_ADDR", "the host of rank 0"),
        ("MASTER_PORT", "a free port there"),
    ):
        if name not in names:
            raise ConfigError(
                f"this is one of {world_size} processes, but {name} ({meaning}) is not set; "
                f"{_REMEDY}, or export it"
            )


def _read_number(
    names: Mapping[str, str], name: str, default: int, *, minimum: int = 0, maximum: int = _MANY
) -> int:
    text = names.get(name, str(default)).strip()
    is_number = text.isascii() and text.isdecimal() and len(text) < 10
    if is_number and minimum <= int(text) <= maximum:
        return int(text)
    limits = f"from {minimum} to {maximum}" if maximum < _MANY else f">= {minimum}"
    if name == "RANK" and maximum < _MANY:
        limits += f", as WORLD_SIZE={names.get('WORLD_SIZE', '')}"
    raise ConfigError(
        f"the environment has {name}={text[:40]}, expected a whole number {limits}; {_REMEDY}, "
        "which set it"
    )


def _name_job(environment: Mapping[str, str]) -> str:
    """Names the job if its launcher does, the same on all nodes."""
    if find_mpi(environment):
        for name in ("PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"):
            if name in environment:
                return f"mpirun {environment[name]}"
    elif environment.get("TORCHELASTIC_RUN_ID", "none") != "none":
        return f"torchrun {environment['TORCHELASTIC_RUN_ID']}"
    elif "SLURM_STEP_ID" in environment and "RANK" not in environment:
        return f"srun {environment.get('SLURM_JOB_ID')}.{environment['SLURM_STEP_ID']}"
    return ""


def _find_launcher(environment: Mapping[str, str]) -> str:
    """Finds the process that started the ranks of this node; "" for ranks started by hand.

    A script between launcher and rank has the rank's variables as well.
    """
    is_deepspeed = "CROSS_RANK" in environment and "LOCAL_SIZE" in environment
    mpi = find_mpi(environment)
    if "RANK" in environment and (is_deepspeed or "TORCHELASTIC_RUN_ID" in environment):
        variable = "RANK"
    elif mpi is not None:
        variable = mpi.rank
    else:
        return ""
    own = f"{variable}={environment[variable]}".encode()
    pid = os.getppid()
    while pid > 1 and own in read_process(pid, "environ").split(b"\0"):
        pid = parent_of(pid)
    return identify_process(pid)
