"""Variables of srun under the names that torch.distributed reads."""

import re
from collections.abc import Mapping

from md2dist.errors import ConfigError

_FIRST_PORT, _NUM_PORTS = 10000, 20000  # below the ports of outgoing connections
_STEPS_PER_JOB = 16  # steps of a job that can run at the same time without a common port


def srun_names(environment: Mapping[str, str]) -> dict[str, str]:
    """Translates the variables of a job step; those of a batch script are ignored.

    Args:
        environment: environment of this process.

    Returns:
        RANK, LOCAL_RANK, GROUP_RANK, WORLD_SIZE and LOCAL_WORLD_SIZE; for several processes
        MASTER_ADDR and MASTER_PORT as well, the same on all of them. Empty outside of a job step.

    Raises:
        ConfigError: if a variable of the job step is missing or damaged.
    """
    if "SLURM_STEP_ID" not in environment:
        return {}
    try:
        return _translate(environment)
    except (KeyError, ValueError, IndexError) as error:
        raise ConfigError(
            "the environment has SLURM_STEP_ID, but other variables of srun are missing or damaged "
            f"({error}); start the ranks with srun, or unset SLURM_STEP_ID"
        ) from None


def _translate(environment: Mapping[str, str]) -> dict[str, str]:
    tasks_per_node = _expand_counts(environment["SLURM_STEP_TASKS_PER_NODE"])
    names = {
        "RANK": environment["SLURM_PROCID"],
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "GROUP_RANK": environment["SLURM_NODEID"],
        "WORLD_SIZE": environment["SLURM_STEP_NUM_TASKS"],
        "LOCAL_WORLD_SIZE": str(tasks_per_node[int(environment["SLURM_NODEID"])]),
    }
    if names["WORLD_SIZE"] != "1":
        job, step = int(environment["SLURM_JOB_ID"]), int(environment["SLURM_STEP_ID"])
        names["MASTER_ADDR"] = _first_host(environment["SLURM_STEP_NODELIST"])
        names["MASTER_PORT"] = str(_FIRST_PORT + (job * _STEPS_PER_JOB + step) % _NUM_PORTS)
    return names


def _expand_counts(text: str) -> list[int]:
    """Expands SLURM's counts per node: ``2(x3),1`` means 2, 2, 2, 1."""
    counts: list[int] = []
    for count, repeats in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        counts += [int(count)] * int(repeats or 1)
    return counts


def _first_host(text: str) -> str:
    """Returns the first of SLURM's node names: that of ``node[03-05,07],login`` is ``node03``."""
    return re.sub(r"\[(\w+)[^]]*\]", r"\1", text).split(",")[0]
