"""Every reader of a checkpoint verifies it first, and refuses a damaged one."""

import json

import pytest
import torch
from helpers.checkpoints import flip_a_byte, resume_state, write_checkpoint
from test_export import run_command
from test_loading import make_config
from torch import nn

from md2dist.errors import CheckpointError
from md2dist.runs.checkpoint_manifest import write_manifest
from md2dist.runs.checkpoint_names import CONFIG_NAME, MANIFEST_NAME, STATES_NAME
from md2dist.weights import find_model, initialise, load_model


@pytest.fixture
def run(tmp_path):
    """A run with two checkpoints, without weights: they are not read before they are verified."""
    for step in (5, 7):
        write_checkpoint(tmp_path / "checkpoints", resume_state(step), config=make_config())
    (tmp_path / "checkpoints" / "latest").write_text("step-00000007\n")
    return tmp_path


def change_weights(checkpoint):
    flip_a_byte(checkpoint / STATES_NAME, 200)


def change_max_depth(checkpoint):
    path = checkpoint / CONFIG_NAME
    path.write_text(path.read_text().replace("max_depth: 100.0", "max_depth: 800.0"))


def cut_weights(checkpoint):
    path = checkpoint / STATES_NAME
    path.write_bytes(path.read_bytes()[:-1])


def remove_weights(checkpoint):
    (checkpoint / STATES_NAME).unlink()


def remove_settings(checkpoint):
    (checkpoint / CONFIG_NAME).unlink()


def remove_manifest(checkpoint):
    (checkpoint / MANIFEST_NAME).unlink()


def write_text(text):
    def write(checkpoint):
        (checkpoint / MANIFEST_NAME).write_text(text)

    return write


def edit_manifest(change):
    def edit(checkpoint):
        path = checkpoint / MANIFEST_NAME
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))

    return edit


DAMAGES = {
    "a bit of the weights": (change_weights, f"{STATES_NAME} is damaged: its size or sha256"),
    "another depth range": (change_max_depth, f"{CONFIG_NAME} is damaged: its size or sha256"),
    "a missing byte": (cut_weights, f"{STATES_NAME} is damaged: its size or sha256"),
    "no settings": (remove_settings, f"damaged: {CONFIG_NAME} is missing"),
    "no weights": (remove_weights, f"damaged: {STATES_NAME} is missing"),
    "no manifest": (remove_manifest, f"damaged: {MANIFEST_NAME} is missing"),
    "an empty manifest": (write_text(""), "manifest.json is damaged: it is not JSON"),
    "a manifest of zeros": (write_text("\0" * 99), "manifest.json is damaged"),
    "another manifest": (write_text("[]"), "manifest.json is damaged: "),
    "a deep manifest": (
        write_text("[" * 100_000),
        "manifest.json is damaged: it is not JSON: recursion limit",
    ),
    "a long number": (
        write_text("1" * 5000),
        "manifest.json is damaged: it is not JSON: number out of range",
    ),
    "no list of files": (
        edit_manifest(lambda manifest: manifest["files"].clear()),
        f"damaged: {MANIFEST_NAME} does not list {CONFIG_NAME}",
    ),
    "a file elsewhere": (
        edit_manifest(lambda manifest: manifest["files"].update({"../x": {"bytes": 1}})),
        "manifest.json is damaged: files.*expected a file name without a folder",
    ),
    "no digest": (
        edit_manifest(lambda manifest: manifest["files"][STATES_NAME].update(sha256=7)),
        "manifest.json is damaged: files.*sha256 is 7, expected a valid string",
    ),
    "a path": (
        edit_manifest(
            lambda manifest: manifest["files"].update({"../x": {"bytes": 1, "sha256": ""}})
        ),
        "manifest.json is damaged: .*expected a file name without a folder",
    ),
    "another step": (
        edit_manifest(lambda manifest: manifest["facts"].update(step=9)),
        f"damaged: {MANIFEST_NAME} says step 9",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("place", ["", "checkpoints/step-00000007"])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_named(run, damage, place):
    spoil, message = DAMAGES[damage]
    spoil(run / "checkpoints" / "step-00000007")
    words = rf"{message}.*; the one before it is undamaged: pass .*/step-00000005$"
    with pytest.raises(CheckpointError, match=words):
        load_model(run / place)
    with pytest.raises(CheckpointError, match=words):
        initialise(nn.Identity(), "scratch", str(run / place))


def test_without_another_one_the_remedy_is_a_new_copy(run):
    for path in (run / "checkpoints").glob("step-*"):
        change_weights(path)
    with pytest.raises(CheckpointError, match=r"differs from the manifest; copy it again$"):
        load_model(run)


def test_a_copy_under_any_name_is_read_and_verified_too(run, tmp_path):
    copy = (run / "checkpoints" / "step-00000007").rename(tmp_path / "my_best")
    assert find_model(copy) == (copy, 7)
    change_weights(copy)
    with pytest.raises(CheckpointError, match=r"my_best/.* is damaged"):
        load_model(copy)


@pytest.mark.parametrize("command", ["export", "predict"])
def test_a_command_prints_one_line_and_writes_nothing(run, command, tmp_path, monkeypatch, capsys):
    change_weights(run / "checkpoints" / "step-00000007")
    options = {
        "export": ["--output", tmp_path / "out"],
        "predict": ["--output", tmp_path / "out", "--input", "docs/demo.png"],
    }
    words = ["--checkpoint", run, *options[command]]
    assert run_command(monkeypatch, *words, command=command) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "is damaged" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["", "../elsewhere", "/etc", "step-7", "a\0b", "\N{WATER WAVE}"])
def test_a_latest_that_names_no_checkpoint_is_refused(run, text):
    (run / "checkpoints" / "latest").write_text(text)
    with pytest.raises(CheckpointError, match=r"latest is damaged: .*name of a checkpoint such as"):
        load_model(run)


def test_a_latest_that_names_a_checkpoint_which_is_gone_is_refused(run):
    (run / "checkpoints" / "latest").write_text("step-00000009")
    with pytest.raises(CheckpointError, match=r"names step-00000009, which has no .*older"):
        load_model(run)


def test_a_checkpoint_without_weights_in_its_file_is_refused(run, tmp_path):
    checkpoint = run / "checkpoints" / "step-00000007"
    torch.save({"weights": {}}, checkpoint / STATES_NAME)
    write_manifest(checkpoint, resume_state(7))
    with pytest.raises(CheckpointError, match="no weights under the key `module`"):
        load_model(run)
