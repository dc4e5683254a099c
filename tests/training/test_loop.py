import json
import logging
import re
from functools import partial

import pytest
import torch
from helpers.connected_ranks import run_ranks
from helpers.small_shards import write_small_shards
from torch.utils._pytree import tree_flatten

from md2dist.config import load_config
from md2dist.runs.checkpoint_folder import find_best, list_checkpoints
from md2dist.runs.checkpoint_manifest import verify_checkpoint
from md2dist.runs.checkpoint_names import STATES_NAME
from md2dist.training.run import start_and_train


class NullWatchdog:
    """A watchdog that neither stops nor ends anything."""

    def report_to(self, path, on_failure): ...

    def set_hang_timeout(self, seconds): ...

    def report_progress(self, activity): ...

    def report_saved(self, step): ...

    def activity(self):
        return "training", 0.0

    def is_stopping(self):
        return False


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


def train_in_turn(starts, world):
    """Trains once for each list of words; gives whether the run was finished, and the log."""
    results = []
    for words in starts:
        lines = Lines()
        logger = logging.getLogger("md2dist")
        logger.addHandler(lines)
        results.append((start_and_train(words, world, NullWatchdog()), lines.messages))
        logger.removeHandler(lines)
    return results


@pytest.mark.slow
def test_a_run_that_is_to_end_before_its_checkpoint_is_finished_and_validated_there(tmp_path):
    shards = write_small_shards(
        tmp_path / "shards", 12, height=64, width=64, ground_truth="velodyne"
    )
    run = tmp_path / "run"
    words = [
        *(f"data.train_shards={shards}", f"log.run_dir={run}", "data.height=64", "data.width=64"),
        *("data.use_stereo=true", "data.num_workers=0", "network.weights=scratch"),
        *("optim.micro_batch_size=2", "log.wandb_mode=disabled", "precision.dtype=fp32"),
    ]
    longer = [*words, "optim.max_steps=2", "optim.grad_accum_steps=2"]
    shorter = [*words, "optim.max_steps=1", f"data.val_shards={shards}"]
    ((first, second),) = run_ranks(partial(train_in_turn, [longer, shorter]), 1)

    assert first[0]
    line = "precision.dtype=fp32 optim.global_batch_size=4 optim.grad_accum_steps=2 ranks=1"
    assert f"resolved: {line}" in first[1]
    assert any(line.startswith("computing on 1 x ") for line in first[1])
    assert not any("nothing left" in line for line in first[1])
    saved = f"step 2 saved in {run}/checkpoints/step-00000002"
    summary = [
        "last      step 2: not validated",
        f"files     {run}: metrics.jsonl, config.yaml, checkpoints, logs",
        f"evaluate  md2dist evaluate --checkpoint {run} --shards SHARDS",
        f"predict   md2dist predict --checkpoint {run} --input IMAGES --output DIR",
        f"report    md2dist report {run} --output {run.name}.html",
    ]
    assert first[1][-7] == saved
    assert first[1][-6].startswith("finished at step 2 after ")
    assert first[1][-5:] == summary

    assert second[0]
    assert (
        "nothing left to train: step 2 is done, and the run ends at step 1; raise "
        "optim.num_epochs=20, optim.max_steps=1 to train further"
    ) in second[1]
    assert "changed since then: optim.max_steps: 2 -> 1" in second[1]
    assert not any("global_batch_size" in line for line in second[1] if "changed" in line)
    validated = r"step 2 validated: abs_rel 0\.\d{4}, the best so far"
    assert re.fullmatch(validated, second[1][-7])
    assert re.match(r"last      step 2: abs_rel 0\.\d{4}, .*, the best$", second[1][-5])
    best = f"{run}/checkpoints/best"
    assert second[1][-3] == f"evaluate  md2dist evaluate --checkpoint {best} --shards {shards}"
    status = json.loads((run / "status.json").read_text())
    assert (status["status"], status["step"]) == ("finished", 2)
    best = find_best(run / "checkpoints")
    state = verify_checkpoint(best)
    assert state.step == 2
    assert state.resolved["precision.dtype"] == "fp32"
    settings = (run / "config.yaml").read_text()
    assert line in settings.splitlines()[0]
    assert load_config([run / "config.yaml"]) == load_config([], shorter)


@pytest.mark.slow
def test_a_failed_validation_is_logged_and_training_continues(tmp_path):
    shards, val = (
        write_small_shards(tmp_path / name, 4, height=64, width=64, ground_truth="velodyne")
        for name in ("train", "val")
    )
    path = val / "shard-000000.tar"
    path.write_bytes(bytes(path.stat().st_size))
    words = [
        *(f"data.train_shards={shards}", f"data.val_shards={val}", f"log.run_dir={tmp_path}/run"),
        *("data.height=64", "data.width=64", "data.num_workers=0", "network.weights=scratch"),
        *("optim.micro_batch_size=2", "log.wandb_mode=disabled", "precision.dtype=fp32"),
        *("optim.num_epochs=2", "checkpoint.keep=1", "checkpoint.keep_epochs=[0]"),
    ]
    (((is_finished, messages),),) = run_ranks(partial(train_in_turn, [words]), 1)
    assert is_finished
    failures = [line for line in messages if "is not validated" in line]
    assert [line.split(":")[0] for line in failures] == [
        f"step {n} is not validated" for n in (2, 4)
    ]
    assert all("shard-000000.tar" in line and "training continues" in line for line in failures)
    checkpoints = list_checkpoints(tmp_path / "run" / "checkpoints")
    assert [path.name for path in checkpoints] == ["step-00000004", "step-00000002"]
    ends = [line for line in messages if re.match(r"epoch \d ended", line)]
    assert [re.sub(r"\d+\.\d+", "F", line) for line in ends] == [
        f"epoch {n} ended ({n + 1} of 2): mean loss F, F samples/s" for n in (0, 1)
    ]
    logged = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    for line, losses in zip(ends, logged, strict=True):  # one line per epoch of two steps
        assert f"mean loss {losses['train/loss']:.4f}," in line


def configure_validated(tmp_path, name, *words):
    """Settings of a small run from stereo alone, with epochs of three steps, that is validated."""
    shards = tmp_path / "shards"
    if not shards.exists():
        write_small_shards(shards, 6, height=64, width=64, ground_truth="velodyne")
    return [
        *(f"data.train_shards={shards}", f"log.run_dir={tmp_path / name}", "data.height=64"),
        *("data.width=64", "data.frame_offsets=[]", "data.use_stereo=true", "data.num_workers=0"),
        *("network.weights=scratch", "optim.micro_batch_size=2", "log.wandb_mode=disabled"),
        *("precision.dtype=fp32", "log.every_steps=1", "checkpoint.keep=9", *words),
    ]


def read_run(run):
    """Returns metrics.jsonl without what is timed, and the newest checkpoint's content."""
    timed = ("time", "train/seconds_per_step", "train/samples_per_second", "train/data_wait")
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    metrics = [{name: line[name] for name in line if name not in timed} for line in lines]
    newest = list_checkpoints(run / "checkpoints")[0]
    return metrics, torch.load(newest / STATES_NAME, weights_only=True)


@pytest.mark.slow
def test_stops_around_a_validation_in_mid_epoch_change_nothing_bit_for_bit(tmp_path):
    words = [f"data.val_shards={tmp_path / 'shards'}", "checkpoint.validate_every_steps=2"]
    starts = [
        configure_validated(tmp_path, "whole", *words, "optim.max_steps=5"),
        # Stopped before the validation that is due at its last step, and after one.
        configure_validated(tmp_path, "stopped", "optim.max_steps=2"),
        configure_validated(tmp_path, "stopped", *words, "optim.max_steps=4"),
        configure_validated(tmp_path, "stopped", *words, "optim.max_steps=5"),
    ]
    (results,) = run_ranks(partial(train_in_turn, starts), 1)
    assert all(is_finished for is_finished, _ in results)
    metrics, state = read_run(tmp_path / "whole")
    other_metrics, other_state = read_run(tmp_path / "stopped")
    assert [line["step"] for line in metrics if "val/abs_rel" in line] == [2, 3, 4, 5]
    assert metrics == other_metrics
    for part in ("module", "optimizer", "guard", "validations"):
        values, others = (tree_flatten(whole[part])[0] for whole in (state, other_state))
        for value, other in zip(values, others, strict=True):
            is_tensor = isinstance(value, torch.Tensor)
            assert torch.equal(value, other) if is_tensor else value == other


@pytest.mark.slow
def test_early_stopping_ends_a_run_for_good_and_gives_the_reason(tmp_path):
    shards = tmp_path / "shards"
    words = [
        *("optim.lr=1e-30", "network.freeze_batchnorm=true"),  # no validation is a new best
        *(f"data.val_shards=[{shards},{shards}/.]", "checkpoint.validate_every_steps=1"),
        *("optim.max_steps=9", "checkpoint.patience=2"),
    ]
    longer = [*words, "checkpoint.patience=9", "optim.max_steps=4"]
    starts = [configure_validated(tmp_path, "run", *each) for each in (words, words, longer)]
    run = tmp_path / "run"
    (results,) = run_ranks(partial(train_in_turn, starts), 1)
    reason = r"no better abs_rel than 0\.\d{4} of step 1 in 2 validations \(checkpoint.patience=2\)"
    first, second, third = (messages for _, messages in results)
    assert any(re.match(rf"finished at step 3 after \w+: {reason}", line) for line in first)
    assert any(re.match(rf"nothing left to train: {reason}", line) for line in second)
    assert not any("validated" in line for line in second)
    assert any(line.startswith("finished at step 4 after") for line in third)
    metrics, state = read_run(run)
    assert [line["step"] for line in metrics if "train/loss" in line] == [1, 2, 3, 4]
    names = {name for line in metrics for name in line if name.endswith("abs_rel")}
    assert names == {"val/abs_rel", "val/shards/abs_rel", "val/shards-2/abs_rel"}
    assert (run / "checkpoints" / "best").readlink().name == "step-00000001"
    assert state["validations"]["num_since"] == 2  # before the validation of step 4
