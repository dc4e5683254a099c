import json
import logging
from pathlib import Path

import pytest

from md2dist.errors import CheckpointError
from md2dist.training.checkpoint import (
    MANIFEST_NAME,
    find_checkpoint,
    list_checkpoints,
    save_checkpoint,
    verify_checkpoint,
)
from md2dist.training.world import read_world

WEIGHTS = "mp_rank_00_model_states.pt"


class FileEngine:
    """Writes what DeepSpeed would, and can die half-way."""

    def __init__(self, content=b"weights", dies=False):
        self.content, self.dies = content, dies

    def save_checkpoint(self, folder, tag, client_state, save_latest):
        assert not save_latest
        with (Path(folder) / tag / WEIGHTS).open("wb") as file:
            file.write(self.content)
            if self.dies:
                raise OSError("no space left on device")


def save(folder, step, keep=3, **engine):
    world = read_world()
    return save_checkpoint(FileEngine(**engine), folder, {"step": step}, "seed: 0\n", keep, world)


def test_a_saved_checkpoint_is_found_with_its_facts(tmp_path):
    checkpoint = save(tmp_path, 7)
    assert find_checkpoint(tmp_path) == (checkpoint, {"step": 7})
    assert (tmp_path / "latest").read_text().strip() == checkpoint.name
    assert (checkpoint / "config.yaml").read_text() == "seed: 0\n"


def test_the_newest_ones_are_kept(tmp_path):
    for step in (5, 10, 15, 100):
        save(tmp_path, step, keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000100", "step-00000015"]


def test_a_checkpoint_that_fails_half_way_does_not_appear_and_the_next_one_does(tmp_path):
    before = save(tmp_path, 1)
    with pytest.raises(OSError, match="no space"):
        save(tmp_path, 2, dies=True)
    assert find_checkpoint(tmp_path) == (before, {"step": 1})
    assert (tmp_path / "latest").read_text().strip() == before.name
    save(tmp_path, 2)
    assert find_checkpoint(tmp_path)[1] == {"step": 2}
    assert not list(tmp_path.glob(".partial*"))


def flip_a_byte(checkpoint):
    path = checkpoint / WEIGHTS
    path.write_bytes(b"W" + path.read_bytes()[1:])


def cut_short(checkpoint):
    (checkpoint / WEIGHTS).write_bytes(b"wei")


def remove_weights(checkpoint):
    (checkpoint / WEIGHTS).unlink()


def break_manifest(checkpoint):
    (checkpoint / MANIFEST_NAME).write_text('{"facts": ')


DAMAGES = [flip_a_byte, cut_short, remove_weights, break_manifest]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_falls_back_loudly_to_the_one_before(tmp_path, damage, caplog):
    before, newest = save(tmp_path, 1), save(tmp_path, 2)
    damage(newest)
    with caplog.at_level(logging.WARNING, logger="md2dist"):
        assert find_checkpoint(tmp_path) == (before, {"step": 1})
    assert "falling back" in caplog.text
    assert str(newest) in caplog.text


def test_nothing_but_damage_is_an_error_and_no_checkpoint_is_none(tmp_path):
    assert find_checkpoint(tmp_path / "absent") is None
    flip_a_byte(save(tmp_path, 1))
    with pytest.raises(CheckpointError, match="all 1 checkpoints"):
        find_checkpoint(tmp_path)


def test_the_manifest_names_every_file(tmp_path):
    checkpoint = save(tmp_path, 3)
    manifest = json.loads((checkpoint / MANIFEST_NAME).read_text())
    assert set(manifest["files"]) == {WEIGHTS, "config.yaml"}
    assert verify_checkpoint(checkpoint) == {"step": 3}
