from md2dist.runs.start_log import Start, append_start, list_versions, read_starts
from md2dist.runs.status_file import Status

START = Start(
    time=1.5, first_step=0, last_step=20, steps_per_epoch=5, global_batch_size=12, num_ranks=2,
    node_size=2, versions=list_versions(), command=["--config", "a.yaml"],
)  # fmt: skip


def test_starts_are_read_as_they_were_appended(tmp_path):
    second = Start(**(vars(START) | {"first_step": 7, "before": Status("preempted", 7, 2.5)}))
    append_start(tmp_path, START)
    append_start(tmp_path, second)
    assert read_starts(tmp_path) == [START, second]


def test_a_start_after_a_power_cut_begins_on_a_line_of_its_own(tmp_path, caplog):
    append_start(tmp_path, START)
    with (tmp_path / "starts.jsonl").open("a") as file:
        file.write('{"time": 3.5, "first_st')
    append_start(tmp_path, START)
    assert read_starts(tmp_path) == [START, START]
    assert "1 damaged lines are left out" in caplog.text


def test_a_start_that_cannot_be_written_is_logged(tmp_path, caplog):
    (tmp_path / "starts.jsonl").symlink_to("/dev/full")
    append_start(tmp_path, START)
    assert "starts.jsonl could not be written: No space left on device" in caplog.text


def test_a_folder_without_starts_has_none(tmp_path):
    assert read_starts(tmp_path) == []


def test_versions_name_what_determines_a_training():
    assert {"python", "torch", "deepspeed", "numpy"} <= list_versions().keys()
