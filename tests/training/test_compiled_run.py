"""A run that is compiled at one start and not at the next."""

import json
from functools import partial

import pytest
from helpers.connected_ranks import run_ranks
from helpers.small_shards import write_small_shards
from test_loop import train_in_turn


@pytest.mark.slow
def test_a_compiled_run_resumes_uncompiled_and_the_other_way_round(tmp_path):
    shards = write_small_shards(tmp_path / "shards", 12, height=64, width=64)
    words = [
        *(f"data.train_shards={shards}", "data.height=64", "data.width=64"),
        *("data.use_stereo=true", "data.num_workers=0", "network.weights=scratch"),
        *("optim.micro_batch_size=2", "log.wandb_mode=disabled", "precision.dtype=fp32"),
        "log.every_steps=1",
    ]
    ways = {"mixed": ("true", "false", "true"), "eager": ("false",) * 3}
    starts = [
        [
            *words,
            f"log.run_dir={tmp_path / run}",
            f"optim.max_steps={step}",
            f"precision.compile={way}",
        ]
        for run, compiles in ways.items()
        for step, way in enumerate(compiles, 1)
    ]
    (results,) = run_ranks(partial(train_in_turn, starts), 1)
    assert all(is_finished for is_finished, _ in results)
    assert "resuming at step 1" in str(results[1])
    assert (tmp_path / "mixed" / "compiled").is_dir()
    losses = []
    for run in ways:
        lines = (tmp_path / run / "metrics.jsonl").read_text().splitlines()
        losses.append([x["train/loss"] for x in map(json.loads, lines) if "train/loss" in x])
    assert len(losses[0]) == 3
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
