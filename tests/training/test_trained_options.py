"""Runs of a few steps with settings beyond the published ones, through the real trainer."""

import json
import math
import shutil
from functools import partial

import pytest
import torch
from helpers.connected_ranks import run_ranks
from helpers.small_shards import write_small_shards
from networks import timm_stub
from test_loop import train_in_turn

from md2dist.runs.checkpoint_names import STATES_NAME
from md2dist.weights.files import read_weights

COSINE = ("optim.schedule=cosine", "optim.weight_decay=0.1", "optim.warmup_steps=1")
ENCODER = ("network.encoder=timm:four", "network.pose_type=shared")


def train_and_resume(words, run, world):
    """Trains four steps; again from the second one, without the checkpoint of the fourth."""
    timm_stub.install()
    results = train_in_turn([words], world)
    shutil.copytree(run, run.with_name("whole"))
    shutil.rmtree(run / "checkpoints" / "step-00000004")
    return results + train_in_turn([[*words, "checkpoint.resume=must"]], world)


def weights_of(run):
    folder = run / "checkpoints" / (run / "checkpoints" / "latest").read_text().strip()
    assert folder.name == "step-00000004"
    return read_weights(folder / STATES_NAME)["module"]


@pytest.mark.slow
def test_a_run_with_another_encoder_weight_decay_and_cosine_resumes_exactly(tmp_path):
    shards = write_small_shards(tmp_path / "shards", 12, height=64, width=64, use_stereo=False)
    run = tmp_path / "run"
    words = [
        *(f"data.train_shards={shards}", f"log.run_dir={run}", "data.height=64", "data.width=64"),
        *("data.num_workers=0", "network.weights=scratch", "deepspeed.zero_stage=1"),
        *("optim.micro_batch_size=3", "optim.max_steps=4", "checkpoint.every_steps=2"),
        *("log.wandb_mode=disabled", "log.every_steps=1", "precision.dtype=fp32"),
        *("optim.lr=1e-3", *COSINE, *ENCODER),
    ]
    (((is_finished, _), (is_finished_again, log)),) = run_ranks(
        partial(train_and_resume, words, run), 1
    )
    assert is_finished
    assert is_finished_again
    assert any(line.startswith("resuming at step 2 from") for line in log)
    whole, resumed = weights_of(tmp_path / "whole"), weights_of(run)
    assert whole.keys() == resumed.keys()
    assert any(name.startswith("encoder.backbone") for name in whole)
    assert [name for name, value in whole.items() if not torch.equal(value, resumed[name])] == []
    rates = [json.loads(line)["train/lr"] for line in (run / "metrics.jsonl").open()]
    expected = [(1 + math.cos(math.pi * done / 3)) / 2 * 1e-3 for done in (0, 0, 1, 2)]
    assert rates == pytest.approx(expected, rel=1e-6)
