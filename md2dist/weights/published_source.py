"""Published weights of all networks: in a folder with a file for each, or in a single file."""

from pathlib import Path
from typing import Any

from md2dist.errors import WeightsError
from md2dist.runs.checkpoint_names import MANIFEST_NAME, STATES_NAME
from md2dist.weights.files import read_weights
from md2dist.weights.fit import is_number, shorten, tidy
from md2dist.weights.layout import (
    CLASSIFIER,
    DEPTH_RANGE,
    ENCODER,
    NETWORKS,
    SETTINGS,
    find_network,
)

_SUFFIXES = (".pth", ".safetensors")
_OURS = "mask."  # of the predictive mask, which has no published file


class PublishedWeights:
    """Weights under the published names; those of a folder are read when they are needed.

    Args:
        path: a folder of ``encoder.pth``, ``depth.pth`` and so on, or a file with all networks:
            ``{"encoder": {...}, "depth": {...}}``, or names as `find_network` reads them.

    Raises:
        WeightsError: if the file is missing or damaged, or holds weights of none of the networks.
    """

    def __init__(self, path: Path):
        self.path = path
        self._states = {} if path.is_dir() else _read_single(path)

    def file(self, network: str) -> Path:
        """Returns the file of a network, which may not exist."""
        if not self.path.is_dir():
            return self.path
        paths = [self.path / f"{network}{suffix}" for suffix in _SUFFIXES]
        return next((path for path in paths if path.exists()), paths[0])

    def has(self, network: str) -> bool:
        """Returns whether there are weights of a network, which may be damaged."""
        return self.file(network).exists() if self.path.is_dir() else network in self._states

    def state(self, network: str) -> dict[str, Any]:
        """Returns the entries of a network's file, without those that are never used.

        Raises:
            WeightsError: if they are missing or damaged.
        """
        if network not in self._states:
            if not self.path.is_dir():
                raise WeightsError(
                    f"{self.path} has no weights of {network}, only of {', '.join(self._states)}; "
                    f"pass a file with all networks, or the folder of {network}.pth"
                )
            file = self.file(network)
            self._states[network] = tidy(read_weights(file), file)
        state = self._states[network]
        return {name: state[name] for name in state if name not in CLASSIFIER}

    def settings(self) -> dict[str, int]:
        """Returns height and width of the model, and whether it was trained with stereo.

        Raises:
            WeightsError: if one is missing or no whole number.
        """
        state = self.state("encoder")
        found = {name: _to_int(state.get(name)) for name in SETTINGS}
        lacking = [name for name, value in found.items() if value is None]
        if lacking:
            raise WeightsError(
                f"{self.file('encoder')} has no valid {', '.join(lacking)}; expected them beside "
                "the weights of the encoder of a published model"
            )
        return {name: value for name, value in found.items() if value is not None}

    def encoder(self) -> str:
        """Returns the `network.encoder`, which only our own files hold; else a ResNet's."""
        encoder = self.state("encoder").get(ENCODER, "resnet")
        return encoder if isinstance(encoder, str) else "resnet"

    def depth_range(self) -> dict[str, float]:
        """Returns min_depth and max_depth in m, where the file holds them; published ones do not.

        Raises:
            WeightsError: if one is no number.
        """
        state = self.state("encoder")
        try:
            return {name: float(state[name]) for name in DEPTH_RANGE if name in state}
        except (TypeError, ValueError, RuntimeError):
            raise WeightsError(
                f"{self.file('encoder')} has an invalid {' or '.join(DEPTH_RANGE)}; expected a "
                "number of metres"
            ) from None


def is_published(path: Path) -> bool:
    """Whether a path is a folder of published files, or a file other than a checkpoint of a run."""
    if path.is_file():
        return path.name not in (STATES_NAME, MANIFEST_NAME)
    return any((path / f"{name}{suffix}").exists() for name in NETWORKS for suffix in _SUFFIXES)


def _read_single(path: Path) -> dict[str, dict[str, Any]]:
    """Reads a file with several networks: their entries by network."""
    content = tidy(read_weights(path), path)
    nested = {name: tidy(content[name], path) for name in NETWORKS if _is_state(content.get(name))}
    if nested:
        numbers = {name: entry for name, entry in content.items() if is_number(entry)}
        nested["encoder"] = numbers | nested.get("encoder", {})
        return nested
    states: dict[str, dict[str, Any]] = {}
    settings: dict[str, Any] = {}
    strangers = []
    for name, entry in content.items():
        if is_number(entry) or name in SETTINGS:
            settings[name] = entry
        elif place := find_network(name):
            network, published = place
            states.setdefault(network, {})[published] = entry
        elif not name.startswith(_OURS):
            strangers.append(name)
    if strangers or not states:
        found = (
            f"it has {', '.join(shorten(strangers, content)[:8])}" if strangers else "it has none"
        )
        raise WeightsError(
            f"{path} has other weights than those of {', '.join(NETWORKS)}: {found}; pass a file "
            "of these networks, or the folder of their files"
        )
    if "encoder" in states:
        states["encoder"] |= settings
    return states


def _is_state(entry: Any) -> bool:
    return isinstance(entry, dict) and all(isinstance(name, str) for name in entry)


def _to_int(value: Any) -> int | None:
    """Returns a whole number that a file holds as a number, a tensor or a text; else None."""
    texts = {"true": 1, "false": 0}
    if isinstance(value, str):
        value = texts.get(value.lower(), value)
    try:
        number = float(value)
        return int(number) if number == int(number) else None
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None
