import subprocess
import sys
import threading
from pathlib import Path

import pytest

from md2dist.errors import ConfigError
from md2dist.runs import run_dir
from md2dist.runs.run_dir import check_run_dir, lock_run_dir, open_run_dir, refuse_other_run
from md2dist.storage.locks import try_lock

OTHER_RUN = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


def open_dir(run_dir, settings="seed: 1\n", resume="auto"):
    open_run_dir(run_dir, settings, starts_over=resume == "never")


def test_the_folder_of_an_active_run_is_locked_until_that_run_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(run_dir, "_LOCK_TIMEOUT_S", 0)
    command = [sys.executable, "-c", OTHER_RUN, tmp_path / "other" / ".lock"]
    (tmp_path / "other").mkdir()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(ConfigError, match=r"another run is using log.run_dir=.*other"):
            lock_run_dir(tmp_path / "other")
        assert [path.name for path in (tmp_path / "other").iterdir()] == [".lock"]
        monkeypatch.setattr(run_dir, "_LOCK_TIMEOUT_S", 60)
        threading.Timer(1.5, other.kill).start()
        lock_run_dir(tmp_path / "other")
    open_dir(tmp_path / "other")


@pytest.mark.parametrize("resume", ["auto", "never"])
def test_a_run_that_waited_for_one_that_renamed_the_folder_leaves_the_new_one_alone(
    tmp_path, resume
):
    open_dir(tmp_path / "run")
    lock_run_dir(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "run.before-1")  # by the other run
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("seed: 7\n")
    with pytest.raises(ConfigError, match=r"another run has started in log.run_dir=.*run since"):
        open_dir(tmp_path / "run", resume=resume)
    assert (tmp_path / "run" / "config.yaml").read_text() == "seed: 7\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run.before-1"]


def test_a_lock_is_void_if_the_folder_was_renamed_during_the_wait(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").touch()

    def lock_too_late(file, required):
        (tmp_path / "run").rename(tmp_path / "run.before-1")
        return True

    monkeypatch.setattr(run_dir, "try_lock", lock_too_late)
    with pytest.raises(ConfigError, match=r"another run has started in log.run_dir=.*run since"):
        lock_run_dir(tmp_path / "run")


def test_a_new_folder_is_locked_when_it_is_created(tmp_path):
    lock_run_dir(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    open_dir(tmp_path / "run")
    assert (tmp_path / "run" / ".lock").exists()


@pytest.mark.parametrize("resume", ["auto", "never"])
def test_a_folder_that_another_run_has_created_meanwhile_is_left_alone(tmp_path, resume):
    lock_run_dir(tmp_path / "run")  # there is no folder yet
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("seed: 7\n")
    with pytest.raises(ConfigError, match=r"another run has started in log.run_dir=.*run since"):
        open_dir(tmp_path / "run", resume=resume)
    assert (tmp_path / "run" / "config.yaml").read_text() == "seed: 7\n"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_that_starts_over_renames_the_old_folder(tmp_path):
    for seed in (1, 2, 3):
        open_dir(tmp_path / "run", f"seed: {seed}\n", "never")
    for name, seed in {"run.before-1": 1, "run.before-2": 2, "run": 3}.items():
        assert f"seed: {seed}\n" in (tmp_path / name / "config.yaml").read_text()


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", "status.json"])
def test_a_folder_with_files_of_someone_else_is_not_taken_for_a_run(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match=rf"is not the folder of a run, and its {name} would be"):
        lock_run_dir(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("mark", [".lock", "checkpoints"])
def test_the_folder_of_an_earlier_run_is_known_by_its_lock_or_its_checkpoints(tmp_path, mark):
    (tmp_path / "config.yaml").write_text("seed: 7\n")
    (tmp_path / mark).touch() if mark == ".lock" else (tmp_path / mark).mkdir()
    lock_run_dir(tmp_path)
    open_dir(tmp_path)
    assert (tmp_path / "config.yaml").read_text() == "seed: 1\n"


@pytest.mark.parametrize("place", [".", "logs"])
def test_the_current_folder_is_not_renamed(tmp_path, monkeypatch, place):
    (tmp_path / "run" / "logs").mkdir(parents=True)
    (tmp_path / "run" / ".lock").touch()
    (tmp_path / "run" / "config.yaml").touch()
    monkeypatch.chdir(tmp_path / "run" / place)
    run = Path("." if place == "." else "..")
    lock_run_dir(run)
    with pytest.raises(ConfigError, match="holds the current folder, and checkpoint"):
        open_dir(run, resume="never")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_folder_that_cannot_be_written_is_a_config_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written: Not a directory"):
        open_dir(tmp_path / "file" / "run")


def test_a_run_whose_folder_was_deleted_saves_there_unless_another_run_has_started(tmp_path):
    folder = tmp_path / "run"
    open_dir(folder)
    refuse_other_run(folder)
    folder.rename(tmp_path / "moved")
    refuse_other_run(folder)
    folder.mkdir()
    refuse_other_run(folder)  # made by a save
    (folder / ".lock").touch()
    with pytest.raises(ConfigError, match=r"another run has started in log.run_dir"):
        refuse_other_run(folder)


def test_a_check_of_the_folder_refuses_what_a_start_would_and_writes_nothing(tmp_path):
    check_run_dir(tmp_path / "new" / "run")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written: Not a directory"):
        check_run_dir(tmp_path / "file" / "run")
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").touch()
    with pytest.raises(ConfigError, match="is not the folder of a run"):
        check_run_dir(run)
    with (run / ".lock").open("a") as file:
        assert try_lock(file)
        with pytest.raises(ConfigError, match="another run is using"):
            check_run_dir(run)
    check_run_dir(run)
    assert {path.name for path in run.iterdir()} == {"config.yaml", ".lock"}
