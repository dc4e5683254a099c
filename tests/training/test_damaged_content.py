"""Checkpoints whose files are as saved, but whose content no run can continue from."""

import json
import logging
import re

import pytest
import torch
from helpers.checkpoints import adam_state, resume_state, write_checkpoint

from md2dist.config import load_config
from md2dist.runs.checkpoint_manifest import write_manifest
from md2dist.runs.checkpoint_names import MANIFEST_NAME, STATES_NAME
from md2dist.training.resume_check import find_resumable

NAN, INF = float("nan"), float("inf")
NAN_MOMENTS = adam_state((2,))
NAN_MOMENTS["state"][0]["exp_avg"][1] = NAN
HUGE = torch.zeros(1).expand(10**6, 10**6, 10**3)

STATES = {
    "a weight": (lambda states: states["module"]["conv"].fill_(NAN), r"1 not finite \(conv\)"),
    "a variance": (lambda states: states["module"]["var"].fill_(INF), r"1 not finite \(var\)"),
    "the optimizer": (lambda states: states.update(optimizer=NAN_MOMENTS), "optimizer has NaN"),
    "no weights": (lambda states: states.update(module=[1]), "no weights under the key `module`"),
    "a huge tensor": (lambda states: states["module"].update(conv=HUGE), "conv is not dense"),
    "another step": (lambda states: states.update(step=400), "hold different resume states"),
    "no step": (lambda states: states.update(step="x"), "hold different resume states"),
}
FACTS = {
    "another step": ({"step": 9}, "says step 9"),
    "a negative step": ({"step": -8}, "step is -8"),
    "a huge step": ({"step": 10**40}, "step is 1000"),
    "another seed": ({"seed": 7}, "hold different resume states"),
}


@pytest.fixture
def run(tmp_path):
    """A run with two checkpoints of a few numbers."""
    module = {"conv": torch.ones(2), "var": torch.ones(2), "num": torch.ones(1, dtype=torch.int64)}
    for step in (4, 8):
        write_checkpoint(tmp_path / "checkpoints", resume_state(step), module)
    assert find_step(tmp_path) == 8
    return tmp_path


def find_step(run):
    return find_resumable(load_config([], [f"log.run_dir={run}"])).state.step


def check_fallback(run, words, caplog):
    with caplog.at_level(logging.WARNING, logger="md2dist"):
        assert find_step(run) == 4
    assert re.search(rf"{words}.*falling back to the previous checkpoint", caplog.text)


@pytest.mark.parametrize("damage", STATES)
def test_a_run_resumes_before_a_checkpoint_whose_content_is_damaged(run, damage, caplog):
    change, words = STATES[damage]
    path = run / "checkpoints" / "step-00000008" / STATES_NAME
    states = torch.load(path)
    change(states)
    torch.save(states, path)
    write_manifest(path.parent, resume_state(8))
    check_fallback(run, words, caplog)


@pytest.mark.parametrize("damage", FACTS)
def test_a_run_resumes_before_a_checkpoint_whose_manifest_contradicts_it(run, damage, caplog):
    changes, words = FACTS[damage]
    path = run / "checkpoints" / "step-00000008" / MANIFEST_NAME
    manifest = json.loads(path.read_text())
    manifest["facts"] |= changes
    path.write_text(json.dumps(manifest))
    check_fallback(run, words, caplog)


def test_a_checkpoint_under_the_name_of_another_step_is_not_resumed_from(run, caplog):
    checkpoints = run / "checkpoints"
    (checkpoints / "step-00000008").rename(checkpoints / "step-00000300")
    check_fallback(run, "manifest.json says step 8", caplog)


def test_a_file_that_deepspeed_would_read_unverified_is_damage(run, caplog):
    (run / "checkpoints" / "step-00000008" / "mp_rank_01_model_states.pt").touch()
    check_fallback(run, "does not list mp_rank_01_model_states", caplog)
