import json
import logging
import re
from functools import partial

import pytest
from helpers.connected_ranks import run_ranks
from helpers.small_shards import write_small_shards

from md2dist.config import load_config
from md2dist.runs.checkpoint_folder import find_best, list_checkpoints
from md2dist.runs.checkpoint_manifest import verify_checkpoint
from md2dist.training.run import start_and_train


class NullWatchdog:
    """A watchdog that neither stops nor ends anything."""

    def report_to(self, path, on_failure): ...

    def set_hang_timeout(self, seconds): ...

    def report_progress(self, activity): ...

    def report_saved(self, step): ...

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
    ]
    assert first[1][-6] == saved
    assert first[1][-5].startswith("finished at step 2 after ")
    assert first[1][-4:] == summary

    assert second[0]
    assert (
        "nothing left to train: step 2 is done, and the run ends at step 1; raise "
        "optim.num_epochs=20, optim.max_steps=1 to train further"
    ) in second[1]
    assert "changed since then: optim.max_steps: 2 -> 1" in second[1]
    assert not any("global_batch_size" in line for line in second[1] if "changed" in line)
    validated = r"step 2 validated: abs_rel 0\.\d{4}, the best so far"
    assert re.fullmatch(validated, second[1][-6])
    assert re.match(r"last      step 2: abs_rel 0\.\d{4}, .*, the best$", second[1][-4])
    best = f"{run}/checkpoints/best"
    assert second[1][-2] == f"evaluate  md2dist evaluate --checkpoint {best} --shards {shards}"
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
