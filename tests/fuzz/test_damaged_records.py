"""Random damage to the records of shards, runs, checkpoints and caches."""

import json
import logging
import shutil

import pytest
import torch
import yaml
from fuzz.damage import damaged, damaged_bytes, damaged_json, fuzzed, outcome_of, replaced
from helpers.checkpoints import resume_state, write_checkpoint
from helpers.small_shards import write_small_shards
from hypothesis import given
from hypothesis import strategies as st

from md2dist.config import load_config
from md2dist.data.inspection.data_card import describe_shards
from md2dist.data.inspection.verification import verify_shards
from md2dist.data.shards.dataset import ShardDataset
from md2dist.errors import Md2distError
from md2dist.reports.page import render_report
from md2dist.reports.run_record import read_run
from md2dist.reports.run_state import describe_state
from md2dist.reports.status_text import format_status
from md2dist.runs.metrics_file import drop_lines_after
from md2dist.runs.start_log import Start, append_start
from md2dist.runs.status_file import Status
from md2dist.storage.cache import ShardCache
from md2dist.training.resume_check import describe_changes
from md2dist.training.setup import set_up_run
from md2dist.weights import find_model
from md2dist.weights.run_folder import open_checkpoint

STEPS = (4, 8)
NEWEST = "checkpoints/step-00000008"
RECORDS = [
    f"{NEWEST}/manifest.json",
    f"{NEWEST}/config.yaml",
    f"{NEWEST}/validation.json",
    "checkpoints/latest",
    "metrics.jsonl",
    "status.json",
    "config.yaml",
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records") / "shards"
    return write_small_shards(folder, 5, 64, 96, use_stereo=False, ground_truth="velodyne")


@pytest.fixture(scope="module")
def run(shards):
    """A run's folder with two checkpoints of a few numbers, in which a training resumes."""
    folder = shards.parent / "run"
    digest = ShardDataset(shards).manifest.digest
    for step in STEPS:
        state = resume_state(step, shard_digest=digest, resolved={"optim.lr": 1e-4, "x": None})
        checkpoint = write_checkpoint(
            folder / "checkpoints", state, {"x": torch.ones(3)}, settings_of(folder)
        )
        (checkpoint / "validation.json").write_text('{"abs_rel": 0.25, "a1": 0.5}')
    (folder / "checkpoints" / "latest").write_text("step-00000008\n")
    lines = [
        json.dumps({"step": step, "time": 1.5, "train/loss": None}) for step in range(0, 10, 2)
    ]
    (folder / "metrics.jsonl").write_text("\n".join([*lines, ""]))
    (folder / "status.json").write_text('{"status": "preempted", "step": 8, "time": 1.5}\n')
    append_start(folder, Start(1.5, 0, 12, 4, 4, 1, 1, versions={"torch": "2"}))
    append_start(folder, Start(2.5, 4, 12, 4, 4, 1, 1, before=Status("failed", 4, 2.0, "x")))
    shutil.copy(checkpoint / "config.yaml", folder)
    return folder


def settings_of(run, *overrides):
    words = [
        "data.height=64",
        "data.width=96",
        "optim.global_batch_size=4",
        "optim.micro_batch_size=4",
    ]
    words += [
        f"data.train_shards={run.parent / 'shards'}",
        f"data.val_shards={run.parent / 'shards'}",
    ]
    return load_config([], [*words, f"log.run_dir={run}", *overrides])


def damage(data, path):
    return replaced(path, data.draw(damaged(path)))


@fuzzed(150)
@given(data=st.data())
def test_a_damaged_manifest_of_shards_is_refused_or_right(shards, data):
    names = (str(shards), "index.json")
    with damage(data, shards / "index.json"):
        dataset = outcome_of(lambda: ShardDataset(shards), *names)
        report = outcome_of(lambda: verify_shards(shards), *names)
        assert isinstance(dataset, Md2distError) == isinstance(report, Md2distError)
        if isinstance(dataset, Md2distError):
            return
        card = outcome_of(lambda: describe_shards(shards), *names)
        samples = [outcome_of(lambda i=i: dataset[i], *names) for i in range(min(len(dataset), 5))]
        read = outcome_of(dataset.check_files, *names)
        assert all(str(fault).isprintable() for fault in report.faults)
        if not report.faults:
            assert not [x for x in [card, read, *samples] if isinstance(x, Exception)]


@pytest.mark.parametrize("name", RECORDS)
@fuzzed(12)
@given(data=st.data())
def test_a_run_with_a_damaged_record_resumes_rightly_or_is_refused(run, name, data):
    config = settings_of(run)
    with damage(data, run / name):
        found = outcome_of(lambda: set_up_run(config), name.split("/")[-1])
        if not isinstance(found, Exception):
            assert found.first_step in STEPS
            outcome_of(lambda: describe_changes(found.checkpoint, config, {}))
            outcome_of(lambda: drop_lines_after(run / "metrics.jsonl", found.first_step))


@pytest.mark.parametrize("name", [name for name in RECORDS if name.startswith("checkpoints")])
@fuzzed(12)
@given(data=st.data())
def test_a_damaged_record_of_a_checkpoint_is_refused_or_right_for_evaluation(run, name, data):
    names = [name.split("/")[-1], "differs from the manifest"]  # of a digest in it
    with damage(data, run / name):
        outcome_of(lambda: find_model(run), *names)
        outcome_of(lambda: open_checkpoint(run).folder, *names)


@pytest.mark.parametrize("name", [*RECORDS, "starts.jsonl"])
@fuzzed(12)
@given(data=st.data())
def test_a_run_with_a_damaged_record_is_described_or_refused(run, name, data):
    with damage(data, run / name):
        record = outcome_of(lambda: read_run(run), name.split("/")[-1])
        if not isinstance(record, Exception):
            assert format_status(describe_state(record, 3.0)).startswith(str(run))
            assert render_report([record], 3.0).endswith(b"</html>\n")


@fuzzed(80)
@given(data=st.data())
def test_damaged_settings_are_refused_in_one_line_or_read(run, data):
    path = run / "config.yaml"
    as_json = json.dumps(yaml.safe_load(path.read_text())).encode()  # YAML, too
    with replaced(path, data.draw(damaged_bytes(path.read_bytes()) | damaged_json(as_json))):
        outcome_of(lambda: load_config([path]), "config.yaml", "=")  # the rules name the setting


@fuzzed(50)
@given(data=st.data())
def test_damaged_lines_of_metrics_go_aside_and_the_others_stay(run, data, caplog):
    path = run / "metrics.jsonl"
    good = path.read_bytes().splitlines()
    with damage(data, path), caplog.at_level(logging.ERROR):
        before = path.read_bytes()
        drop_lines_after(path, 6)
        after = path.read_bytes().splitlines()
        assert all(isinstance(json.loads(line)["step"], int) for line in after)
        lines = [line.strip(b"\0\r\n ") for line in before.split(b"\n")]
        whole = [line for line in lines if line in good[:4]]
        assert [line for line in after if line in good] == whole
    (run / "metrics.jsonl.damaged").unlink(missing_ok=True)


@fuzzed(50)
@given(data=st.data())
def test_a_damaged_ledger_of_a_cache_is_counted_anew(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cache") / "cache"
    cache = ShardCache(folder, 1000)
    cache.open("a", 100, lambda stream: stream.write(bytes(100)))
    with damage(data, folder / ".ledger"):
        opened = outcome_of(
            lambda: cache.open("b", 100, lambda stream: stream.write(bytes(100))), str(folder)
        )
        assert not isinstance(opened, Exception)
    shutil.rmtree(folder.parent)
