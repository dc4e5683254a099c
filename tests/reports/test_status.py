"""`md2dist status` on folders as trainings leave them."""

import json
import shlex

import pytest
from run_folders import NOW, add_restart, add_validation, write_run

from md2dist.commands import status
from md2dist.errors import RunError
from md2dist.reports.run_record import read_run
from md2dist.reports.run_state import describe_state
from md2dist.reports.status_text import format_status, format_time


@pytest.fixture
def run(tmp_path):
    """A run that is training: 100 of 200 steps are done."""
    return write_run(tmp_path / "run")


def state_of(folder, now=NOW):
    return describe_state(read_run(folder), now)


def test_speed_and_end_follow_from_the_times_of_the_lines(run):
    state = state_of(run)  # one line a second
    assert (state.step, state.last_step, state.epoch, state.num_epochs) == (100, 200, 2, 20)
    assert state.steps_per_second == pytest.approx(1)
    assert state.remaining_s == pytest.approx(100)
    assert state.ends_at == pytest.approx(NOW + 100)


def test_the_wait_for_data_is_a_share_in_percent(run):
    state = state_of(run)
    state.metrics["train/data_wait"] = 0.1234
    assert "data wait 12%" in format_status(state)


def test_a_time_beyond_the_calendar_is_unknown():
    assert format_time(NOW).startswith("2027-01-1")
    assert [format_time(s) for s in (1e300, -1e300)] == ["unknown", "unknown"]


@pytest.mark.parametrize(
    ("fields", "activity"),
    [
        ({"activity": "starting"}, "starting"),
        ({"activity": "reading the data of step 7", "activity_s": 0.1}, "training"),
        ({"activity": "reading the data of step 7", "activity_s": 30.0}, "waiting for data"),
        ({"activity": "at step 7"}, "training"),
        ({"activity": "saving step 7"}, "saving"),
        ({"activity": "validating"}, "validating"),
        ({"time": NOW - 3600}, "silent"),
        ({"status": "finished"}, "finished"),
        ({"status": "preempted", "time": NOW - 3600}, "preempted"),
        ({"status": "failed", "message": "rank 1 died"}, "failed"),
    ],
)
def test_each_activity_has_its_word(tmp_path, fields, activity):
    assert state_of(write_run(tmp_path / "run", **fields)).activity == activity


def test_a_run_that_is_silent_may_be_dead_and_has_no_end(tmp_path):
    folder = write_run(tmp_path / "run", time=NOW - 720)
    state = state_of(folder)
    assert (state.silent_s, state.ends_at) == (720, None)
    assert "silent for 12 min; last at step 100: is it dead?" in format_status(state)
    assert state_of(folder, now=NOW - 700).activity == "training"


def test_what_went_wrong_before_is_listed_in_order(run):
    add_restart(run, 40)
    add_restart(run, 70, "running")
    add_restart(run, 90, "failed", "no progress on any rank for 600 s")
    assert state_of(run).problems == [
        "preempted at step 40; resumed at 40",
        "killed without a word at step 70 or later; resumed at 70",
        "failed at step 90: no progress on any rank for 600 s; resumed at 90",
    ]


def test_skipped_steps_are_problems(run):
    lines = list(map(json.loads, (run / "metrics.jsonl").read_text().splitlines()))
    lines[29]["train/skipped_steps"] = 2
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert state_of(run).problems == ["2 of the steps up to 30 skipped: not finite"]
    assert read_run(run).num_skipped == 2


def test_the_best_validation_and_the_newest_checkpoint_are_shown(run):
    add_validation(run, 50, abs_rel=0.2)
    add_validation(run, 100, abs_rel=0.25)
    state = state_of(run)
    assert (state.best_step, state.best["abs_rel"], state.saved_step) == (50, 0.2, 100)
    assert state.metrics["val/abs_rel"] == 0.25


@pytest.mark.parametrize("message", ["", "x" * 500, "a word " * 80])
def test_all_lines_but_paths_and_commands_fit_80_columns(tmp_path, message):
    folder = write_run(tmp_path / "run", status="failed", message=message)
    add_restart(folder, 70, "failed", message)
    add_validation(folder, 100, 0.2)
    lines = format_status(state_of(folder)).splitlines()
    long = [line for line in lines if len(line) > 80]
    assert all(line.startswith(("continue", str(tmp_path))) for line in long)


def test_the_command_that_continues_is_the_one_that_started(run):
    command = state_of(run).next_command
    folder, _, command = command.partition(" && ")
    assert folder == "cd /home/me"
    assert shlex.split(command) == [
        "deepspeed", "-q", "--num_gpus", "2", "--module", "md2dist.commands.train",
        "--config", "configs/mono_stereo.yaml", f"log.run_dir={run}",
    ]  # fmt: skip


def test_a_finished_run_is_followed_by_its_evaluation(tmp_path):
    folder = write_run(tmp_path / "run", status="finished")
    assert (
        state_of(folder).next_command == f"md2dist evaluate --checkpoint {folder} --shards SHARDS"
    )


def test_a_run_of_an_earlier_version_shows_what_it_recorded(run):
    (run / "starts.jsonl").unlink()
    (run / "status.json").write_text(json.dumps({"status": "running", "step": 100, "time": NOW}))
    with (run / "config.yaml").open("a") as file:
        file.write("unknown: 1\n")  # a setting of another version
    state = state_of(run)
    assert (state.activity, state.epoch, state.last_step) == ("training", 1, None)
    text = format_status(state)
    assert "not recorded: the run was started by an earlier version" in text
    assert "with the command that started it" in text


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "is not the folder of a run: it has no status.json; pass log.run_dir"),
        ({"config.yaml": "seed: 1\n"}, "its first start is in progress, or failed before"),
        ({"status.json": '{"status": "running"}'}, "step is missing"),
        ({"status.json": "\x00"}, "is damaged, or of a version that this one cannot read"),
    ],
)
def test_a_folder_without_a_status_is_one_clear_line(tmp_path, run_main, files, words):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    code, out, error = run_main(status.main, tmp_path)
    assert (code, out) == (2, "")
    assert error.count("\n") == 1
    assert words in error
    with pytest.raises(RunError, match="is not a folder"):
        read_run(tmp_path / "missing")


def test_json_has_an_object_for_each_run_and_errors_are_beside_it(run, tmp_path, run_main):
    code, out, error = run_main(status.main, run, tmp_path / "none", run, "--json")
    assert code == 2
    assert "none is not a folder" in error
    first, second = json.loads(out)
    assert first["run"] == second["run"] == str(run)
    assert first["metrics"]["train/lr"] == 1e-4


def test_metrics_that_are_not_finite_are_null_and_said(tmp_path, run_main):
    folder = write_run(tmp_path / "run", losses=lambda step: None)
    _, out, _ = run_main(status.main, folder, "--json")
    assert json.loads(out)[0]["metrics"]["train/loss"] is None
    assert "loss not finite" in format_status(state_of(folder))


def test_control_characters_of_a_message_do_not_reach_the_terminal(tmp_path, run_main):
    folder = write_run(tmp_path / "run", status="failed", message="a\x1b[31mred\nline")
    add_restart(folder, 50, "failed", "\x1b]0;title\x07")
    code, out, _ = run_main(status.main, folder)
    assert code == 0
    assert "\x1b" not in out
    assert "\x07" not in out


def test_a_status_changes_nothing_in_the_folder(run, run_main):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    run_main(status.main, run)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
