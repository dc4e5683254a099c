"""The sweeps of W&B in configs/sweeps, with W&B's own way of filling in their commands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from md2dist.commands.train import parse_arguments
from md2dist.config import load_words
from md2dist.config.reference import list_sections
from md2dist.config_yaml import read_yaml

ROOT = Path(__file__).parents[2]
SWEEPS = sorted((ROOT / "configs" / "sweeps").glob("*.yaml"))
SETTINGS = {setting.name for section in list_sections() for setting in section.settings}


def values_of(parameter):
    """The values of a parameter that W&B may choose, or the bounds between which it does."""
    names = [name for name in ("value", "min", "max") if name in parameter]
    return parameter.get("values") or [parameter[name] for name in names]


def command_of(sweep, values):
    """Fills in the command of one run as W&B's agent does."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    arguments = {name: {"value": value} for name, value in values.items()}
    words = create_sweep_command_args({"args": arguments})
    command = []
    for part in create_sweep_command(list(sweep["command"])):
        is_macro = part.startswith("${") and part.endswith("}")
        command += words[part[2:-1]] if is_macro else [part]
    return command


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.name)
def test_every_run_of_a_sweep_is_a_training_that_loads_in_a_folder_of_its_own(
    path, tmp_path, monkeypatch
):
    sweep = read_yaml(path, str(path))
    assert (ROOT / sweep["program"]).is_file()
    assert sweep["parameters"].keys() <= SETTINGS
    launcher = tmp_path / "deepspeed"
    launcher.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    launcher.chmod(0o755)
    search = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    for end in (0, -1):
        values = {name: values_of(kind)[end] for name, kind in sweep["parameters"].items()}
        done = subprocess.run(
            command_of(sweep, values),
            env={**os.environ, "PATH": search, "WANDB_RUN_ID": "k3x9"},
            capture_output=True,
            check=True,
            text=True,
        )
        quiet, program, *words = done.stdout.splitlines()
        assert (quiet, program) == ("-q", sweep["program"])
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", [program, *words])
        arguments = parse_arguments()
        config = load_words([*arguments.config, *arguments.overrides])
        assert config.log.run_dir.endswith("/k3x9")
        assert config.data.val_shards  # the metric of the sweep is that of validations
        for name, value in values.items():
            section, field = name.split(".")
            assert getattr(getattr(config, section), field) == value


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.name)
def test_a_sweep_compares_a_metric_that_validations_log(path):
    from md2dist.evaluation.depth_scores import NAMES

    metric = read_yaml(path, str(path))["metric"]
    assert metric["name"].removeprefix("val/") in NAMES
    assert metric["goal"] in ("minimize", "maximize")
