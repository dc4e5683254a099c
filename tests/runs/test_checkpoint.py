import json
import logging
import os
from pathlib import Path

import pytest
from helpers.checkpoints import resume_state
from helpers.connected_ranks import run_ranks

from md2dist.distributed.world import barrier, read_world
from md2dist.errors import CheckpointError
from md2dist.runs.checkpoint import save_checkpoint
from md2dist.runs.checkpoint_folder import (
    find_best,
    find_checkpoint,
    note_validation,
    read_validation,
)
from md2dist.runs.checkpoint_manifest import verify_checkpoint
from md2dist.runs.checkpoint_names import MANIFEST_NAME, list_checkpoints

WEIGHTS = "mp_rank_00_model_states.pt"


class FileWriter:
    """Writes instead of torch; can simulate a disk that becomes full."""

    def __init__(self, is_full):
        self.is_full = is_full

    def save(self, state_dict, path):
        with Path(path).open("wb") as file:
            file.write(state_dict)
            if self.is_full:
                raise OSError("no space left on device")


class FileEngine:
    """Saves as DeepSpeed does: the main rank writes, then all wait for each other."""

    def __init__(self, is_full=False):
        self.checkpoint_engine = FileWriter(is_full)

    def save_checkpoint(self, folder, tag, client_state, save_latest):
        assert not save_latest
        if read_world().is_main:
            self.checkpoint_engine.save(b"weights", Path(folder) / tag / WEIGHTS)
        barrier()


def save(folder, step, keep=3, kept_steps=(), **engine):
    world = read_world()
    engine = FileEngine(**engine)
    state = resume_state(step)
    return save_checkpoint(engine, folder, state, "seed: 0\n", keep, world, kept_steps)


def test_a_saved_checkpoint_is_found_with_its_state(tmp_path):
    checkpoint = save(tmp_path, 7)
    assert find_checkpoint(tmp_path) == (checkpoint, resume_state(7))
    assert (tmp_path / "latest").read_text().strip() == checkpoint.name
    assert (checkpoint / "config.yaml").read_text() == "seed: 0\n"


def test_the_newest_ones_are_kept(tmp_path):
    for step in (5, 10, 15, 100):
        save(tmp_path, step, keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000100", "step-00000015"]


def test_those_of_chosen_steps_are_kept_beside_the_newest(tmp_path):
    for step in (5, 10, 15, 20):
        save(tmp_path, step, keep=1, kept_steps=[10, 15, 99])
    kept = ["step-00000020", "step-00000015", "step-00000010"]
    assert [path.name for path in list_checkpoints(tmp_path)] == kept


def test_a_checkpoint_that_fails_half_way_is_not_published_and_the_next_one_is(tmp_path):
    before = save(tmp_path, 1)
    with pytest.raises(CheckpointError, match=r"no space.*check its free space"):
        save(tmp_path, 2, is_full=True)
    assert find_checkpoint(tmp_path) == (before, resume_state(1))
    assert (tmp_path / "latest").read_text().strip() == before.name
    assert not list(tmp_path.glob(".partial*"))
    save(tmp_path, 2)
    assert find_checkpoint(tmp_path)[1] == resume_state(2)


def save_on_a_full_disk(world):
    folder = Path(os.environ["CHECKPOINTS"])
    try:
        save(folder, 1, is_full=True)
    except CheckpointError as error:
        return f"{error}: {list(folder.iterdir())}"


@pytest.mark.slow
def test_a_failed_write_on_one_rank_fails_on_all(tmp_path, monkeypatch):
    monkeypatch.setenv("CHECKPOINTS", str(tmp_path))
    for message in run_ranks(save_on_a_full_disk):
        assert "rank 0: no checkpoint could be saved" in message
        assert message.endswith("[]")


def test_the_best_in_validation_is_kept_beside_the_newest(tmp_path):
    for step, abs_rel in ((5, 0.3), (10, 0.1), (15, 0.2), (20, float("nan")), (25, 0.1)):
        note_validation(save(tmp_path, step, keep=1), {"abs_rel": abs_rel})
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000025", "step-00000010"]
    assert find_best(tmp_path) == tmp_path / "step-00000010"
    assert (tmp_path / "best").resolve().name == "step-00000010"
    assert read_validation(tmp_path / "best") == {"abs_rel": 0.1}
    assert verify_checkpoint(tmp_path / "best") == resume_state(10)


def test_the_best_of_another_validation_set_does_not_count(tmp_path):
    for step, abs_rel, origin in ((5, 0.1, "old"), (10, 0.3, "new"), (15, 0.4, "new")):
        note_validation(save(tmp_path, step, keep=2), {"abs_rel": abs_rel}, origin)
        best = {5: 5, 10: 10, 15: 10}[step]
        assert (tmp_path / "best").resolve().name == f"step-{best:08d}"
    assert read_validation(tmp_path / "best") == {"abs_rel": 0.3}
    assert [path.name[-2:] for path in list_checkpoints(tmp_path)] == ["15", "10"]


def test_a_best_of_an_earlier_version_counts_for_any_set(tmp_path):
    for step, abs_rel in ((5, 0.1), (10, 0.3)):
        note_validation(save(tmp_path, step), {"abs_rel": abs_rel}, "set" if step == 10 else "")
    assert find_best(tmp_path) == tmp_path / "step-00000005"


def test_damaged_checkpoints_of_later_steps_are_removed_when_the_steps_are_repeated(tmp_path):
    for step in (10, 15, 20):
        note_validation(save(tmp_path, step), {"abs_rel": 1 / step})
    for name in ("step-00000015", "step-00000020"):
        cut_short(tmp_path / name)
    assert find_checkpoint(tmp_path)[1] == resume_state(10)
    again = save(tmp_path, 12, keep=1)
    assert find_checkpoint(tmp_path) == (again, resume_state(12))
    assert [path.name for path in list_checkpoints(tmp_path)] == [again.name, "step-00000010"]
    assert find_best(tmp_path) == tmp_path / "step-00000010"


def test_partial_checkpoints_of_a_killed_run_are_removed_by_the_next_save(tmp_path):
    (tmp_path / ".partial-step-00000007").mkdir()
    save(tmp_path, 9)
    assert not list(tmp_path.glob(".partial*"))


def test_without_validation_there_is_no_best(tmp_path):
    checkpoint = save(tmp_path, 5)
    assert find_best(tmp_path) is None
    assert read_validation(checkpoint) is None
    note_validation(checkpoint, {"abs_rel": float("nan")})
    assert find_best(tmp_path) is None
    assert not (tmp_path / "best").exists()


def flip_a_byte(checkpoint):
    path = checkpoint / WEIGHTS
    path.write_bytes(b"W" + path.read_bytes()[1:])


def cut_short(checkpoint):
    (checkpoint / WEIGHTS).write_bytes(b"wei")


def remove_weights(checkpoint):
    (checkpoint / WEIGHTS).unlink()


def break_manifest(checkpoint):
    (checkpoint / MANIFEST_NAME).write_text('{"facts": ')


def drop_the_seed(checkpoint):
    path = checkpoint / MANIFEST_NAME
    manifest = json.loads(path.read_text())
    del manifest["facts"]["seed"]
    path.write_text(json.dumps(manifest))


DAMAGES = [drop_the_seed, flip_a_byte, cut_short, remove_weights, break_manifest]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_falls_back_to_the_previous_one_with_a_warning(
    tmp_path, damage, caplog
):
    before, newest = save(tmp_path, 1), save(tmp_path, 2)
    damage(newest)
    with caplog.at_level(logging.WARNING, logger="md2dist"):
        assert find_checkpoint(tmp_path) == (before, resume_state(1))
    assert "falling back" in caplog.text
    assert str(newest) in caplog.text


def test_only_damaged_checkpoints_are_an_error_and_no_checkpoint_gives_none(tmp_path):
    assert find_checkpoint(tmp_path / "absent") is None
    flip_a_byte(save(tmp_path, 1))
    with pytest.raises(CheckpointError, match="all 1 checkpoints"):
        find_checkpoint(tmp_path)


def test_the_manifest_names_every_file(tmp_path):
    checkpoint = save(tmp_path, 3)
    manifest = json.loads((checkpoint / MANIFEST_NAME).read_text())
    assert set(manifest["files"]) == {WEIGHTS, "config.yaml"}
    assert verify_checkpoint(checkpoint) == resume_state(3)
