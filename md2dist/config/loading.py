"""Loading of settings: the defaults, changed by YAML files, then by `key=value`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from md2dist.config.rules import check_config
from md2dist.config.schema import Config
from md2dist.config_merge import ConfigMerge
from md2dist.storage.addresses import public_setting


def load_config(paths: Sequence[str | Path] = (), overrides: Sequence[str] = ()) -> Config:
    """Reads YAML files and overrides into the schema and checks the result.

    Args:
        paths: YAML files; later ones take precedence.
        overrides: ``section.key=value``, e.g. ``optim.lr=1e-4``; they take precedence over files.
            The value is parsed as YAML or, for settings of type str, taken verbatim.

    Returns:
        The frozen tree of settings. Files that it names are not opened.

    Raises:
        ConfigError: for a missing or malformed file, an unknown key (with the nearest known one), a
            value of the wrong type, or contradictory settings.
    """
    merge = ConfigMerge(Config)
    for path in paths:
        merge.add_file(Path(path))
    for override in overrides:
        merge.add_override(override)
    config = cast(Config, merge.finish())
    check_config(config)
    return config


def load_words(words: Sequence[str]) -> Config:
    """Loads command-line arguments: overrides contain an equals sign, the others are YAML files.

    Raises:
        ConfigError: as `load_config`.
    """
    overrides = [word for word in words if "=" in word]
    return load_config([word for word in words if "=" not in word], overrides)


def public_settings(config: Config) -> dict[str, Any]:
    """Returns all settings by section and name, addresses in their public form."""
    return public_setting(dataclasses.asdict(config))


def dump_config(config: Config) -> str:
    """Returns all settings as YAML that `load_config` reads back; addresses lose their secrets."""
    return OmegaConf.to_yaml(OmegaConf.create(public_settings(config)))


def save_config(config: Config, path: str | Path) -> None:
    """Writes `dump_config` to a file."""
    Path(path).write_text(dump_config(config), encoding="utf-8")
