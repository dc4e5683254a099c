"""Weights in the checkpoints of a run, as DeepSpeed writes them."""

from pathlib import Path
from typing import Any

from md2dist.errors import CheckpointError
from md2dist.model import MonodepthModel
from md2dist.weights.files import check_num_layers, check_state_dict, read_weights, strip_prefix

STATES_NAME = "mp_rank_00_model_states.pt"  # written by DeepSpeed; the key `module` has the weights


def resolve_checkpoint(path: Path) -> Path:
    """Returns the checkpoint of a path: the folder itself, or a run's newest checkpoint.

    Raises:
        CheckpointError: if the path is neither, or the run's newest checkpoint is missing.
    """
    if (path / STATES_NAME).is_file():
        return path
    latest = path / "checkpoints" / "latest"
    if not latest.is_file():
        raise CheckpointError(
            f"{path} is neither a run (checkpoints/latest), nor a checkpoint ({STATES_NAME}), nor "
            "a folder of published weights (encoder.pth, depth.pth); check the path"
        )
    checkpoint = latest.parent / latest.read_text().strip()
    if not (checkpoint / STATES_NAME).is_file():
        raise CheckpointError(
            f"{latest} names {checkpoint.name}, which has no {STATES_NAME}; "
            "pass the path of an older checkpoint"
        )
    return checkpoint


def read_step(checkpoint: Path) -> int | None:
    """Reads the number of optimizer steps of a checkpoint; None if it has none.

    Raises:
        WeightsError: if its file is missing or damaged.
    """
    step = read_weights(checkpoint / STATES_NAME, use_mmap=True).get("step")
    return step if isinstance(step, int) else None


def find_config(checkpoint: Path) -> Path:
    """Returns the file of a checkpoint's settings: its own copy, else the run's.

    Raises:
        CheckpointError: if there is neither.
    """
    for folder in (checkpoint, checkpoint.absolute().parent.parent):
        if (folder / "config.yaml").is_file():
            return folder / "config.yaml"
    raise CheckpointError(f"no config.yaml in {checkpoint} or its run; copy the run's there")


def list_networks(checkpoint: Path) -> list[str]:
    """Lists the networks whose weights a checkpoint holds, such as encoder, depth and pose.

    Raises:
        WeightsError: if its file is missing or damaged.
        CheckpointError: if it is not one of DeepSpeed's.
    """
    return list(dict.fromkeys(map(_network_of, _read_module(checkpoint))))


def import_checkpoint(model: MonodepthModel, checkpoint: Path) -> None:
    """Loads the weights of the model's networks; others in the checkpoint are ignored.

    Args:
        model: receives the weights.
        checkpoint: the checkpoint's folder.

    Raises:
        WeightsError: if the file is damaged, or of another network.
        CheckpointError: if it is not one of DeepSpeed's.
    """
    path = checkpoint / STATES_NAME
    state = _read_module(checkpoint)
    check_num_layers(strip_prefix(state, "encoder."), model.num_layers, path)
    networks = [name for name, _ in model.named_children()]
    state = {key: state[key] for key in state if _network_of(key) in networks}
    check_state_dict(state, model.state_dict(), path)
    model.load_state_dict(state)


def _read_module(checkpoint: Path) -> dict[str, Any]:
    path = checkpoint / STATES_NAME
    state = read_weights(path, use_mmap=True).get("module")
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} has no weights under the key `module`; is it complete?")
    return state


def _network_of(key: str) -> str:
    return key.partition(".")[0]
