"""No file of a run and no byte on the terminal holds a secret of the addresses it was given."""

import json
import sys

import pytest
from conftest import read_metrics, run_command, training_words
from helpers.file_server import serve_files
from helpers.remote_shards import serve_folder
from helpers.wandb_files import records_of

from md2dist.config import load_config
from md2dist.distributed.world import find_free_port
from md2dist.model import MonodepthModel
from md2dist.weights import export_published

pytestmark = pytest.mark.slow

SECRET = "5ecre7"
QUERY = f"?X-Amz-Date=20260101T000000Z&X-Amz-Signature={SECRET}"


@pytest.fixture
def server():
    with serve_files() as server:
        yield server


def signed(url):
    return url.replace("://", f"://user:{SECRET}@") + QUERY


def piped(folder):
    return f"pipe:TOKEN={SECRET} cat {folder}/{{}} # Authorization: Bearer {SECRET}"


def assert_no_secret(folder, *processes):
    paths = [path for path in folder.rglob("*") if path.is_file()]
    for path in paths:
        assert SECRET.encode() not in path.read_bytes(), path
    for process in processes:
        assert SECRET not in process.stdout + process.stderr
    return {path.name for path in paths}


def test_a_training_stores_and_prints_no_secret_and_resumes_with_the_same_command(
    small_shards, server, tmp_path
):
    url = serve_folder(server, small_shards)
    addresses = [f"data.train_shards={signed(url)}", f"data.val_shards={piped(small_shards)}"]
    words = [*training_words(small_shards, tmp_path / "run"), *addresses]
    words += [f"data.cache_dir={tmp_path / 'cache'}", "log.wandb_mode=offline"]
    launcher = ["deepspeed", "-q", "--num_gpus", 2, "--master_port", find_free_port()]
    command = [*launcher, "launch/train.py", "--config", *words, "optim.num_epochs=2"]
    first = run_command([*command, "optim.max_steps=4"], WANDB_MODE="offline", WANDB_SILENT="true")
    assert first.returncode == 0, first.stdout + first.stderr
    second = run_command(command, WANDB_MODE="offline", WANDB_SILENT="true")
    assert second.returncode == 0, second.stdout + second.stderr
    assert "resuming at step 4" in second.stdout + second.stderr
    assert len(read_metrics(tmp_path / "run")) > 4
    names = assert_no_secret(tmp_path, first, second)
    assert names >= {"config.yaml", "metrics.jsonl", "status.json", "rank-0.log", "manifest.json"}
    shown = (tmp_path / "run" / "config.yaml").read_text()
    assert f"train_shards: {url}\n" in shown
    (*_, offline) = (tmp_path / "run").rglob("*.wandb")
    assert url in str(records_of(offline))


def test_a_failing_training_stores_and_prints_no_secret(small_shards, server, tmp_path):
    words = training_words(small_shards, tmp_path / "run")
    for address in (
        signed(f"{server.url}/nowhere"),
        f"pipe:echo {SECRET} {{}} >&2; exit 127; -H 'X: {SECRET}'",
        f"ftp://user:{SECRET}@host/x",
        f"https://user:{SECRET}@host/with blanks",
    ):
        process = run_command(
            [sys.executable, "launch/train.py", "--config", *words, f"data.train_shards={address}"]
        )
        assert process.returncode == 2
        assert process.stderr.splitlines()[-1].startswith("error: ")
        assert_no_secret(tmp_path, process)
    for mistake in ("data.train_shrads={}", "optim.lr={}", "data.cache_dir={}", "--shards={}"):
        mistake = mistake.format(signed(server.url))
        process = run_command([sys.executable, "launch/train.py", "--config", *words, mistake])
        assert process.returncode == 2
        assert_no_secret(tmp_path, process)


def test_an_evaluation_and_its_errors_hold_no_secret(small_shards, server, tmp_path):
    settings = ["data.height=64", "data.width=64", "precision.dtype=fp32"]
    export_published(MonodepthModel.from_config(load_config([], settings)), tmp_path / "weights")
    url = serve_folder(server, small_shards)
    base = [sys.executable, "launch/evaluate.py", "--checkpoint", tmp_path / "weights"]
    base += ["--cache-dir", tmp_path / "cache", "--shards"]
    for address, shown in ((signed(url), url), (piped(small_shards), None)):
        done = run_command([*base, address, "--output", tmp_path / "figures.json"])
        assert done.returncode == 0, done.stderr
        figures = json.loads((tmp_path / "figures.json").read_text())
        assert shown in (None, figures["shards"])
        assert_no_secret(tmp_path, done)
    server.faults += ["403"]
    refused = run_command([*base, url])
    assert refused.returncode == 2
    assert "give the whole address again" in refused.stderr
    wrong = run_command([*base, signed(f"{url}/none"), "--batch-size", signed(url)])
    assert wrong.returncode == 2
    for command in ("verify_shards", "inspect_shards"):
        done = run_command([sys.executable, f"shard_tools/{command}.py", signed(url)])
        assert done.returncode == 0, done.stderr
        failed = run_command([sys.executable, f"shard_tools/{command}.py", signed(f"{url}/none")])
        assert failed.returncode == 2
        assert_no_secret(tmp_path, wrong, done, failed)
