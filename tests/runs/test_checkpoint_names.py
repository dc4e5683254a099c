"""What stands beside the checkpoints of a run, and is none of them."""

import logging
import shutil

import pytest
from test_checkpoint import WEIGHTS, save

from md2dist.runs.checkpoint_folder import find_best, find_checkpoint, note_validation
from md2dist.runs.checkpoint_names import list_checkpoints, list_ignored, step_of

OTHER_NAMES = [
    *("step-00000010-copy", "step-00000010_universal", "step-00000010.bak", "step-00000010 (1)"),
    *("step-99999999-copy", "step-10", "step-000000010", "step-00000010\n", "step-٠٠٠٠٠٠١٠"),
    *("step-latest", "Step-00000010", "step-0000001e", ".partial-step-00000010-copy", ".partial-x"),
]


def contents(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def make_others(folder):
    """Copies a checkpoint under names that are nearly ours, also as a file and as a link."""
    source = save(folder, 10)
    note_validation(source, {"abs_rel": 0.001})
    for name in OTHER_NAMES:
        shutil.copytree(source, folder / name)
    elsewhere = source.rename(folder.parent / "elsewhere")
    (folder / "best").unlink()
    (folder / "step-00000090").symlink_to(elsewhere)
    (folder / "step-00000091").write_text("a file")
    (folder / "step-00000092").mkdir()
    (folder / "step-00000092" / "notes.txt").write_text("a folder of someone else")
    before = contents(folder) | contents(elsewhere)
    return {path: content for path, content in before.items() if path != folder / "latest"}


@pytest.mark.parametrize(("name", "step"), [("step-00000010", 10), ("step-123456789", 123456789)])
def test_exact_names_have_a_step(name, step):
    assert step_of(name) == step


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_names_that_begin_like_ours_have_none(name):
    assert step_of(name) is None


def test_other_folders_files_and_links_are_no_checkpoints_and_are_never_touched(tmp_path, caplog):
    folder = tmp_path / "checkpoints"
    before = make_others(folder)
    with caplog.at_level(logging.WARNING, logger="md2dist"):
        assert find_checkpoint(folder) is None
    assert "ignored in" in caplog.text
    for name in ("step-99999999-copy", "step-00000090", "step-00000091", "step-00000092"):
        assert name in caplog.text
    for step in (1, 2, 3):
        save(folder, step, keep=2)
    assert [path.name for path in list_checkpoints(folder)] == ["step-00000003", "step-00000002"]
    assert find_checkpoint(folder).folder.name == "step-00000003"
    assert find_best(folder) is None
    after = contents(folder) | contents(tmp_path / "elsewhere")
    assert {path: after.get(path) for path in before} == before


def test_only_later_ones_than_the_newest_checkpoint_are_reported(tmp_path):
    (tmp_path / "step-00000010-copy").mkdir()
    save(tmp_path, 10)
    assert list_ignored(tmp_path) == []
    (tmp_path / "step-00000011_universal").mkdir()
    assert list_ignored(tmp_path) == ["step-00000011_universal"]


def test_what_has_the_name_of_a_new_checkpoint_is_kept_under_another_name(tmp_path, caplog):
    folder = tmp_path / "checkpoints"
    make_others(folder)
    for step in (90, 91, 92):
        assert find_checkpoint(folder) is None or step > 90
        save(folder, step)
    assert "kept as step-00000091.before-1" in caplog.text
    assert (folder / "step-00000090.before-1").resolve() == tmp_path / "elsewhere"
    assert (folder / "step-00000091.before-1").read_text() == "a file"
    assert (folder / "step-00000092.before-1" / "notes.txt").exists()
    assert [path.name[-2:] for path in list_checkpoints(folder)] == ["92", "91", "90"]


def test_files_that_someone_put_into_a_checkpoint_outlive_it(tmp_path):
    first = save(tmp_path, 1)
    (first / "figures.json").write_text("{}")
    (first / "pictures").mkdir()
    for step in (2, 3):
        save(tmp_path, step, keep=1)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000003"]
    kept = tmp_path / "step-00000001.before-1"
    assert sorted(path.name for path in kept.iterdir()) == ["figures.json", "pictures"]
    assert not (tmp_path / "step-00000002").exists()


def test_checkpoints_are_ordered_by_their_step(tmp_path):
    for step in (99999999, 100000000):
        save(tmp_path, step, keep=1)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-100000000"]


def test_the_recovery_of_a_killed_removal_is_complete(tmp_path):
    (save(tmp_path, 1) / ".validation.json.0123abcd").touch()
    (tmp_path / "step-00000001" / f"zero_pp_rank_0_{WEIGHTS[:10]}_optim_states.pt").touch()
    save(tmp_path, 2, keep=1)
    assert not (tmp_path / "step-00000001").exists()


@pytest.mark.parametrize("is_folder", [True, False])
def test_what_is_called_best_and_is_no_link_is_left_alone(tmp_path, is_folder):
    path = tmp_path / "best"
    path.mkdir() if is_folder else path.write_text("mine")
    with pytest.raises(FileExistsError, match="name of the link `best`"):
        note_validation(save(tmp_path, 1), {"abs_rel": 0.1})
    assert path.is_dir() if is_folder else path.read_text() == "mine"
