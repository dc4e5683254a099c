"""W&B's service process, started outside the job's process tree so that signals spare it."""

import logging
import os
import subprocess
import sys

logger = logging.getLogger(__name__)

_VARIABLE = "WANDB_SERVICE"  # address of a running service; W&B connects to it
_TIMEOUT_S = 60
# It exits this long after the training process has left. Long enough to connect to it on a busy
# machine; a killed training's last steps are written then.
_IDLE_TIMEOUT = "15s"


def start_service() -> None:
    """Starts W&B's service process, which writes the run's files, unless one is running.

    W&B would start it as a child of this process. It ends at once at SIGINT or SIGTERM and loses
    what it has not written, while launchers (`deepspeed`, when they stop a job) signal all
    descendants of a rank, in whatever session they are. Started by a process that exits, it is no
    descendant. If this fails, W&B starts its own.
    """
    if os.environ.get(_VARIABLE):
        return
    command = ["-P", "-m", "wandb", "beta", "core", "start", "--idle-timeout", _IDLE_TIMEOUT]
    try:
        done = subprocess.run(
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            text=True,
            timeout=_TIMEOUT_S,
            start_new_session=True,
        )
        os.environ[_VARIABLE] = done.stdout.split()[-1]
    except (OSError, IndexError, subprocess.SubprocessError) as error:
        logger.debug("W&B's service could not be started separately: %s", error)


def restart_service() -> None:
    """Leaves the service behind, which ends when it is idle, and starts another one.

    The first one holds the ID of a run that could not be started.
    """
    import wandb

    os.environ.pop(_VARIABLE, None)
    wandb.teardown()
    start_service()
