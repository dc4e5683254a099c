"""Parts of a W&B run, which are found by their folders."""

import shlex
from pathlib import Path

import pytest

from md2dist.runs.wandb.parts import Part, find_parts, list_uploads


def write_part(folder, name, run_id):
    path = folder / name / f"run-{run_id}.wandb"
    path.parent.mkdir(parents=True)
    path.touch()
    return Part(path.parent, run_id, name.startswith("offline-"))


@pytest.mark.parametrize("run_id", ["run7", "run7-1", "my-run"])
def test_parts_that_started_within_one_second_are_all_found_in_their_order(tmp_path, run_id):
    first, second = "20260131_235958", "20260131_235959"
    names = [f"offline-run-{first}-{run_id}{number}" for number in ("", "-1", "-2", "-10")]
    names += [f"run-{second}-{run_id}", f"offline-run-{second}-{run_id}-1"]
    parts = [write_part(tmp_path, name, run_id) for name in reversed(names)][::-1]
    (tmp_path / "run-20260131_235959-empty").mkdir()
    (tmp_path / "latest-run").symlink_to(parts[-1].folder)
    assert find_parts(tmp_path) == parts
    assert shlex.split(list_uploads(parts)) == [str(tmp_path / n) for n in names if n[0] == "o"]


def test_the_short_form_of_many_uploads_names_the_parts_of_the_run_alone(tmp_path):
    names = [f"offline-run-20260131_235958-run7-{number}" for number in range(7)]
    parts = [write_part(tmp_path, name, "run7") for name in names]
    write_part(tmp_path, "offline-run-20260131_235958-run71", "run71")
    words = list_uploads(parts)
    assert len(words) < 200
    pattern = Path(words).relative_to(tmp_path)
    assert sorted(tmp_path.glob(str(pattern))) == sorted(part.path for part in parts)
