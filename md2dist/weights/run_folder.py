"""Weights in the checkpoints of a run, as DeepSpeed writes them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from md2dist.errors import CheckpointError, WeightsError
from md2dist.model import MonodepthModel
from md2dist.networks.encoders import Encoder
from md2dist.runs.checkpoint_folder import Checkpoint
from md2dist.runs.checkpoint_manifest import NEEDED_FOR_WEIGHTS, verify_checkpoint
from md2dist.runs.checkpoint_names import (
    MANIFEST_NAME,
    STATES_NAME,
    list_checkpoints,
    read_latest,
)
from md2dist.runs.resume_state import ResumeState
from md2dist.weights.files import describe_tensor, is_plain, read_weights
from md2dist.weights.fit import (
    check_architecture,
    check_state_dict,
    list_faults,
    list_not_finite,
    strip_prefix,
)
from md2dist.weights.optimizer_state import check_optimizer


def resolve_checkpoint(path: Path) -> Path:
    """Returns the checkpoint of a path: the folder itself, or a run's newest checkpoint.

    Raises:
        CheckpointError: if the path is neither, or the run's newest checkpoint is missing.
    """
    if path.name in (STATES_NAME, MANIFEST_NAME):
        path = path.parent
    if is_checkpoint(path):
        return path
    folder = path / "checkpoints"
    latest = read_latest(folder)
    if latest is None:
        raise CheckpointError(
            f"{path} is neither a run (checkpoints/latest), nor a checkpoint ({STATES_NAME}), nor "
            "published weights (a folder with encoder.pth and depth.pth, or a file); check the path"
        )
    if not is_checkpoint(folder / latest):
        raise CheckpointError(
            f"{folder / 'latest'} names {latest}, which has no {STATES_NAME}; "
            "pass the path of an older checkpoint"
        )
    return folder / latest


def is_checkpoint(path: Path) -> bool:
    """Returns whether a folder is a checkpoint, which may be damaged."""
    return any((path / name).is_file() for name in (STATES_NAME, MANIFEST_NAME))


def open_checkpoint(path: Path) -> Checkpoint:
    """Finds the checkpoint of a path, and verifies its weights and settings.

    Raises:
        CheckpointError: if there is none, or it is damaged; no other one takes its place, as
            figures would be those of another model.
    """
    folder = resolve_checkpoint(path)
    try:
        return Checkpoint(folder, verify_checkpoint(folder, NEEDED_FOR_WEIGHTS))
    except CheckpointError as error:
        before = _find_before(folder.resolve())
        remedy = f"the one before it is undamaged: pass {before}" if before else "copy it again"
        raise CheckpointError(f"{error}; {remedy}") from None


def _find_before(checkpoint: Path) -> Path | None:
    """Finds the newest undamaged checkpoint of a run before one of its checkpoints."""
    for other in list_checkpoints(checkpoint.parent):
        if other.name < checkpoint.name:
            try:
                verify_checkpoint(other, NEEDED_FOR_WEIGHTS)
                return other
            except CheckpointError:
                continue
    return None


def check_states(checkpoint: Checkpoint) -> None:
    """Checks the content of a verified checkpoint, from which training resumes.

    Raises:
        WeightsError: if its file cannot be read, or a weight or running statistic is not finite.
        CheckpointError: if its file is not one of DeepSpeed's, or its resume state is another one
            than that of the manifest, or the state of its optimizer does not fit its weights.
    """
    path = checkpoint.folder / STATES_NAME
    states = read_weights(path, use_mmap=True)
    module = _module_of(states, path)
    for name, tensor in module.items():
        if not is_plain(tensor):
            raise CheckpointError(
                f"{path} is damaged: {name} is {describe_tensor(tensor)}, expected dense numbers"
            )
    if faults := list_not_finite(module):
        raise WeightsError(f"{path} is damaged: {list_faults({'not finite': faults})}")
    check_optimizer(checkpoint, states, module)
    if "step" in states:
        try:
            is_same = ResumeState.from_json(states) == checkpoint.state
        except ValueError:
            is_same = False
        if not is_same:
            raise CheckpointError(
                f"{checkpoint.folder} is damaged: {MANIFEST_NAME} and {STATES_NAME} hold different "
                "resume states"
            )


def list_networks(checkpoint: Path) -> list[str]:
    """Lists the networks whose weights a checkpoint holds, such as encoder, depth and pose.

    Raises:
        WeightsError: if its file is missing or damaged.
        CheckpointError: if it is not one of DeepSpeed's.
    """
    return list(dict.fromkeys(map(_network_of, _read_module(checkpoint))))


def import_checkpoint(
    model: MonodepthModel, checkpoint: Path, networks: Sequence[str] = ()
) -> None:
    """Loads the weights of the model's networks; others in the checkpoint are ignored.

    Args:
        model: receives the weights.
        checkpoint: the checkpoint's folder.
        networks: the networks of the model to load; empty: all.

    Raises:
        WeightsError: if the file is damaged, or of another network.
        CheckpointError: if it is not one of DeepSpeed's.
    """
    path = checkpoint / STATES_NAME
    state = _read_module(checkpoint)
    networks = networks or [name for name, _ in model.named_children()]
    for name in networks:
        if isinstance(encoder := model.get_submodule(name), Encoder):
            check_architecture(strip_prefix(state, f"{name}."), encoder, path)
    own = model.state_dict()
    state = {key: state[key] for key in state if _network_of(key) in networks}
    expected = {key: own[key] for key in own if _network_of(key) in networks}
    model.load_state_dict(own | check_state_dict(state, expected, path))


def _read_module(checkpoint: Path) -> dict[str, Any]:
    path = checkpoint / STATES_NAME
    return _module_of(read_weights(path, use_mmap=True), path)


def _module_of(states: dict[str, Any], path: Path) -> dict[str, Any]:
    state = states.get("module")
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise CheckpointError(f"{path} has no weights under the key `module`; is it complete?")
    return state


def _network_of(key: str) -> str:
    return key.partition(".")[0]
