"""Runs of launch/train.py whose losses and weights are compared."""

import json
import math

import pytest
import torch
from conftest import assert_same_state, read_metrics, read_state

from md2dist.runs.start_log import read_starts
from md2dist.weights.run_folder import resolve_checkpoint

pytestmark = pytest.mark.slow
TEN_STEPS = ["optim.global_batch_size=4", "optim.max_steps=10", "optim.num_epochs=10"]


def test_two_ranks_and_two_accumulation_steps_give_the_same_run_bit_for_bit(train):
    words = [*TEN_STEPS, "network.freeze_batchnorm=true"]
    together = train("ranks", *words, num_ranks=2)
    alone = train("accumulation", *words, "optim.grad_accum_steps=2")
    losses = read_metrics(together)
    assert losses == read_metrics(alone)
    assert len(losses) == 10
    assert len(set(losses.values())) == 10
    assert_same_state(read_state(together), read_state(alone))


def test_a_run_stopped_in_mid_epoch_resumes_to_the_same_weights(train):
    words = ["optim.global_batch_size=4", "optim.grad_accum_steps=2", "optim.num_epochs=10"]
    whole = train("whole", *words, "optim.max_steps=7")
    stopped = train("stopped", *words, "optim.max_steps=4")
    train("stopped", *words, "optim.max_steps=7", "checkpoint.resume=must")
    assert read_metrics(whole) == read_metrics(stopped)
    assert list(read_metrics(whole)) == [1, 2, 3, 4, 5, 6, 7]
    assert_same_state(read_state(whole), read_state(stopped))


def test_a_run_of_one_rank_resumes_with_two_and_keeps_its_global_batch(train):
    alone = train("alone", "optim.grad_accum_steps=2", "optim.max_steps=2")
    train("alone", "optim.max_steps=4", num_ranks=2)
    whole = train("whole", "optim.grad_accum_steps=2", "optim.max_steps=4")
    assert read_metrics(alone) == pytest.approx(read_metrics(whole), rel=0.02)
    assert read_state(alone)["global_batch_size"] == 4


def test_a_run_starts_without_compiling_anything(run_training, tmp_path, monkeypatch):
    extensions = tmp_path / "extensions"
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(extensions))
    run_training("run", "optim.max_steps=1")
    assert not extensions.exists()


def test_zero_optimizers_take_the_same_steps_also_after_a_resume(train):
    words = ["optim.max_steps=3", "network.freeze_batchnorm=true"]
    plain = train("plain", *words, num_ranks=2)
    for stage in (1, 2):
        split = train(f"{stage}", *words, f"deepspeed.zero_stage={stage}", num_ranks=2)
        assert read_metrics(split) == pytest.approx(read_metrics(plain), rel=1e-4)
        norms = [read_metrics(run, "train/gradient_norm") for run in (split, plain)]
        assert norms[0] == pytest.approx(norms[1], rel=1e-2)  # float32 sums of 14 million squares
    words[0] = "deepspeed.zero_stage=2"
    stopped = train("stopped", *words, "optim.max_steps=2", num_ranks=2)
    train("stopped", *words, "optim.max_steps=3", num_ranks=2)
    assert read_metrics(stopped) == read_metrics(split)


def test_synchronised_batch_norm_makes_two_ranks_take_the_steps_of_one(train):
    words = ["optim.global_batch_size=4", "optim.max_steps=3", "loss.tie_noise=0"]
    alone = train("alone", *words, "optim.micro_batch_size=4")
    words.append("network.use_sync_batchnorm=true")
    together = train("together", *words, num_ranks=2)
    assert read_metrics(together) == pytest.approx(read_metrics(alone), rel=1e-4)
    assert read_state(together)["module"].keys() == read_state(alone)["module"].keys()


def test_half_precision_follows_single_precision(train):
    # One sample per step: a CPU computes fp16 convolutions slowly.
    words = ["optim.max_steps=2", "optim.micro_batch_size=1", "network.freeze_batchnorm=true"]
    single = train("fp32", *words)
    for dtype in ("bf16", "fp16"):
        half = train(dtype, *words, f"precision.dtype={dtype}")
        assert read_metrics(half) == pytest.approx(read_metrics(single), rel=0.02)
        assert read_metrics(half) != read_metrics(single)
        assert read_state(half)["guard"]["num_skipped"] == 0


def test_an_overflow_of_the_loss_scale_is_skipped_on_all_ranks_and_survives_a_resume(train):
    # One sample without neighbours per rank: a CPU computes fp16 convolutions slowly.
    words = ["precision.dtype=fp16", "data.frame_offsets=[]", "optim.micro_batch_size=1"]
    words.append("precision.initial_loss_scale=1e38")
    run = train("overflow", *words, "optim.max_steps=1", num_ranks=2)
    first = read_state(run)
    assert first["guard"] == {"scale": pytest.approx(5e37), "num_clean_steps": 0, "num_skipped": 1}
    assert all(state["step"] == 0 for state in first["optimizer"]["state"].values())
    train("overflow", *words, "optim.max_steps=2", num_ranks=2)
    assert read_state(run)["guard"]["num_skipped"] == 2
    assert read_state(run)["guard"]["scale"] == pytest.approx(2.5e37)


def test_a_finished_run_writes_all_its_files(run_training, small_shards):
    words = [f"data.val_shards={small_shards}", "optim.max_steps=3", "log.pictures_every_steps=2"]
    words.append("data.num_workers=null")
    process, run = run_training("whole", *words, num_ranks=2)
    start, _, rest = process.stderr.partition("step 1 of 3: ")
    assert len(process.stdout.splitlines() + start.splitlines()) <= 10
    *_, finished, last, files, evaluate, predict, report = rest.splitlines()
    assert "finished at step 3 after " in finished
    assert "last      step 3: abs_rel " in last
    assert f"files     {run}: metrics.jsonl" in files
    assert evaluate.endswith(f"--checkpoint {run}/checkpoints/best --shards {small_shards}")
    assert f"md2dist predict --checkpoint {run}/checkpoints/best" in predict
    assert f"md2dist report {run} --output" in report
    assert "\r" not in process.stderr + process.stdout
    assert all(f"step {step} of 3: " in rest for step in (2, 3))
    assert json.loads((run / "status.json").read_text())["status"] == "finished"
    assert (run / "config.yaml").is_file()
    assert (run / "logs" / "train-panel-00000002.png").is_file()
    assert (run / "logs" / "rank-1.log").is_file()
    assert len(list((run / "logs").glob("val-panel-?-00000003.jpg"))) == 2
    [start] = read_starts(run)
    assert (start.num_ranks, start.node_size, start.last_step, start.before) == (2, 2, 3, None)
    assert start.command[-len(words) :] == words
    assert start.val_shards["samples"] == "12 in 3 shards, 0 skipped"
    (abs_rel,) = read_metrics(run, "val/abs_rel").values()
    assert math.isfinite(abs_rel)
    best = run / "checkpoints" / "best"
    assert json.loads((best / "validation.json").read_text())["abs_rel"] == abs_rel
    assert resolve_checkpoint(best) == best
    state = read_state(run)["module"]
    assert all(torch.isfinite(value).all() for value in state.values())
