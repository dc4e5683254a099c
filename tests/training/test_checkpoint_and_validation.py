import logging
import shutil
from types import SimpleNamespace

import pytest
import torch

from md2dist.config import load_config
from md2dist.distributed.world import World
from md2dist.errors import CheckpointError, ShardError
from md2dist.runs.resume_state import ValidationState
from md2dist.training.checkpoint_and_validation import CheckpointAndValidation
from md2dist.training.validation import validator
from md2dist.training.validation.sets import ValidationSet

STATE = SimpleNamespace(validations=ValidationState())


@pytest.mark.parametrize(("rank", "level"), [(0, logging.ERROR), (1, logging.INFO)])
def test_failures_of_all_ranks_are_logged_on_one_terminal(monkeypatch, caplog, rank, level):
    def fail(error):
        raise error

    monkeypatch.setattr(
        validator, "validate", lambda *_, **__: fail(ShardError("shard 3 is damaged"))
    )
    monkeypatch.setattr(
        CheckpointAndValidation, "save", lambda *_: fail(CheckpointError("the disk is full"))
    )
    setup = SimpleNamespace(
        checkpoint=None,
        state=STATE,
        val_sets=[ValidationSet("val", None)],
        last_step=4,
        order=SimpleNamespace(num_steps=2),
    )
    report = SimpleNamespace(
        flush=lambda *_: None, end_epoch=lambda _: None, restart_clock=lambda: None
    )
    world = World(rank, rank, 2, torch.device("cpu"))
    engine = SimpleNamespace(module=None)
    checkpoints = CheckpointAndValidation(engine, None, load_config(), setup, report, world, None)
    with caplog.at_level(logging.INFO, logger="md2dist"):
        checkpoints.after_step(2, 0)
    assert [(record.levelno, record.message) for record in caplog.records] == [
        (level, "the disk is full; training continues and saves again at the next checkpoint"),
        (level, "step 2 is not validated: shard 3 is damaged; training continues"),
    ]


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    module = torch.nn.BatchNorm2d(3)
    module.running_var[1] = float("nan")
    engine = SimpleNamespace(module=module)
    setup = SimpleNamespace(checkpoint=None, state=STATE, val_sets=())
    watchdog = SimpleNamespace(report_progress=lambda activity: None)
    config = load_config([], [f"log.run_dir={tmp_path}"])
    world = World(0, 0, 1, torch.device("cpu"))
    checkpoints = CheckpointAndValidation(engine, None, config, setup, None, world, watchdog)
    words = r"step 9 is not saved: .* 1 are not finite \(running_var\); resume from the last"
    with pytest.raises(CheckpointError, match=words):
        checkpoints.save(9)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_was_deleted_is_made_again_at_the_end(monkeypatch, tmp_path):
    def save(self, num_done):
        (tmp_path / "checkpoints" / f"step-{num_done:08d}").mkdir(parents=True)
        self._saved_step = num_done

    monkeypatch.setattr(CheckpointAndValidation, "save", save)
    setup = SimpleNamespace(checkpoint=None, state=STATE, val_sets=())
    report = SimpleNamespace(flush=lambda *_: None)
    config = load_config([], [f"log.run_dir={tmp_path}"])
    world = World(0, 0, 1, torch.device("cpu"))
    engine = SimpleNamespace(module=None)
    checkpoints = CheckpointAndValidation(engine, None, config, setup, report, world, None)
    for number in range(3):
        checkpoints.before_end(4, 0)
        assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000004"]
        if number == 1:
            shutil.rmtree(tmp_path / "checkpoints")
