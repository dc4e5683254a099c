"""The weights inside a run's folder, as DeepSpeed leaves them there."""

from pathlib import Path

from md2dist.errors import CheckpointError
from md2dist.model import MonodepthModel
from md2dist.weights.files import check_fit, check_num_layers, read_weights, select

STATES_NAME = "mp_rank_00_model_states.pt"  # written by DeepSpeed; the key `module` has the weights


def resolve_checkpoint(path: Path) -> Path:
    """Returns the checkpoint that a path means: its own folder, or the newest one of a run.

    Raises:
        CheckpointError: if the path is neither, or the run names a checkpoint that is not there.
    """
    if (path / STATES_NAME).is_file():
        return path
    latest = path / "checkpoints" / "latest"
    if not latest.is_file():
        raise CheckpointError(
            f"{path} is no run (checkpoints/latest), no checkpoint ({STATES_NAME}) and no folder "
            "of published weights (encoder.pth, depth.pth); check the path"
        )
    checkpoint = latest.parent / latest.read_text().strip()
    if not (checkpoint / STATES_NAME).is_file():
        raise CheckpointError(
            f"{latest} names {checkpoint.name}, which has no {STATES_NAME}; "
            "give the path of an older checkpoint"
        )
    return checkpoint


def find_config(checkpoint: Path) -> Path:
    """Returns the file of a checkpoint's settings: its own copy, else the run's.

    Raises:
        CheckpointError: if there is neither.
    """
    for folder in (checkpoint, checkpoint.absolute().parent.parent):
        if (folder / "config.yaml").is_file():
            return folder / "config.yaml"
    raise CheckpointError(f"no config.yaml in {checkpoint} or its run; copy the run's there")


def import_checkpoint(model: MonodepthModel, checkpoint: Path) -> None:
    """Loads the weights that the model has a network for; others of the checkpoint are left aside.

    Args:
        model: takes the weights.
        checkpoint: the checkpoint's folder.

    Raises:
        WeightsError: if the file is damaged, or of another network.
        CheckpointError: if it is not one of DeepSpeed's.
    """
    path = checkpoint / STATES_NAME
    state = read_weights(path, use_mmap=True).get("module")
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} has no weights under the key `module`; was it cut down?")
    check_num_layers(select(state, "encoder."), model.num_layers, path)
    networks = dict(model.named_children())
    state = {key: state[key] for key in state if key.split(".")[0] in networks}
    check_fit(state, model.state_dict(), path)
    model.load_state_dict(state)
