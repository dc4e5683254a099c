import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import resume_state, write_checkpoint
from helpers.small_shards import write_small_shards

from md2dist.config import load_config
from md2dist.data.shards.dataset import ShardDataset
from md2dist.data.shards.manifest import read_manifest
from md2dist.evaluation.depth import evaluate_depth
from md2dist.evaluation.flip_postprocess import with_flip_postprocess
from md2dist.model import MonodepthModel
from md2dist.prediction.predictor import frames_predictor
from md2dist.runs.checkpoint_folder import note_validation
from md2dist.runs.checkpoint_names import name_of
from md2dist.weights import export_published, load_model

pytestmark = pytest.mark.slow

COMMAND = Path(__file__).parents[2] / "launch" / "evaluate.py"
SIZE = {"height": 64, "width": 96}
NAMES = ["abs_rel", "sq_rel", "rmse", "rmse_log", "a1", "a2", "a3"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return write_small_shards(folder, num_samples=5, ground_truth="velodyne", **SIZE)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Folders with the published files of a stereo model and of a monocular one."""
    folders = {True: tmp_path_factory.mktemp("stereo"), False: tmp_path_factory.mktemp("mono")}
    for use_stereo, folder in folders.items():
        torch.manual_seed(0)
        settings = ["data.height=64", "data.width=96", f"data.use_stereo={use_stereo}"]
        export_published(MonodepthModel.from_config(load_config(overrides=settings)), folder)
    return folders


def start(checkpoint, shards, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, COMMAND, "--checkpoint", checkpoint, "--shards", shards, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )


@pytest.mark.parametrize(
    ("use_stereo", "scaling", "ground_truth", "protocol"),
    [(True, 5.4, "velodyne", "eigen"), (False, "median", "annotated", "eigen_benchmark")],
)
def test_the_command_prints_a_row_and_writes_the_figures_of_the_library(
    weights, use_stereo, scaling, ground_truth, protocol, tmp_path
):
    checkpoint = weights[use_stereo]
    shards = write_small_shards(tmp_path / "shards", 5, ground_truth=ground_truth, **SIZE)
    cache = ["--cache-dir", tmp_path / "cache", "--cache-gb", "1"]
    process = start(checkpoint, shards, "--output", tmp_path / "figures.json", *cache)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert len(list((tmp_path / "cache").glob("md2dist-cache/*-*-*"))) == 5
    figures = json.loads((tmp_path / "figures.json").read_text())
    report = evaluate_depth(
        frames_predictor(load_model(checkpoint)),
        ShardDataset(shards),
        protocol=protocol,
        scaling=scaling,
    )
    title = {"protocol": protocol, "scaling": scaling, "dtype": "fp32", "flip_postprocess": False}
    title |= {"checkpoint": str(checkpoint), "checkpoint_folder": checkpoint.name, "step": None}
    title |= {"shards": str(shards), "shard_digest": read_manifest(shards).digest}
    assert figures.items() >= title.items()
    assert out.startswith(f"{protocol}, scaling {scaling}, fp32, {checkpoint}\n")
    assert figures["num_images"] == 5
    assert [figures[name] for name in NAMES] == pytest.approx(report.metrics, rel=1e-5)
    assert "| abs_rel | sq_rel | rmse | rmse_log | a1 | a2 | a3 | images | median ratio |" in out


@pytest.mark.parametrize("place", ["", "checkpoints/best"])
def test_the_figures_name_the_checkpoint_of_a_run_and_its_type(shards, tmp_path, place):
    settings = ["data.height=64", "data.width=96", "data.use_stereo=true", "precision.dtype=bf16"]
    config = load_config(overrides=settings)
    torch.manual_seed(0)
    checkpoints = tmp_path / "run" / "checkpoints"
    for step in (7, 9):
        weights = MonodepthModel.from_config(config).state_dict()
        write_checkpoint(checkpoints, resume_state(step), weights, config)
    (checkpoints / "latest").write_text(name_of(9) + "\n")
    note_validation(checkpoints / name_of(7), {"abs_rel": 0.1})
    run, step = tmp_path / "run" / place, 7 if place else 9
    output = tmp_path / "figures.json"
    words = ["--flip-postprocess", "--dtype", "auto" if place else "fp32"]
    process = start(run, shards, "--output", output, *words)
    out, err = process.communicate()
    assert process.returncode == 0, err
    dtype = "bf16" if place else "fp32"
    figures = json.loads(output.read_text())
    title = {"dtype": dtype, "flip_postprocess": True, "checkpoint": str(run), "step": step}
    assert figures.items() >= (title | {"checkpoint_folder": f"step-{step:08d}"}).items()
    heading = f"eigen, scaling 5.4, {dtype}, flip post-processing, {run}, step {step}"
    assert out.splitlines()[0] == heading
    report = evaluate_depth(
        with_flip_postprocess(
            frames_predictor(load_model(checkpoints / name_of(step), dtype=dtype))
        ),
        ShardDataset(shards),
        protocol="eigen",
        scaling=5.4,
    )
    assert [figures[name] for name in NAMES] == pytest.approx(report.metrics, rel=1e-5)


def start_ranks(words_of_ranks):
    """Starts a rank for each list of words; gives their outputs and their exit codes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    world["WORLD_SIZE"] = str(len(words_of_ranks))
    ranks = [
        start(*words, f"--local_rank={rank}", RANK=str(rank), LOCAL_RANK=str(rank), **world)
        for rank, words in enumerate(words_of_ranks)
    ]
    outputs = [rank.communicate(timeout=120) for rank in ranks]
    return outputs, [rank.returncode for rank in ranks]


def test_two_ranks_give_the_figures_of_one_and_only_the_first_speaks(weights, shards, tmp_path):
    settings = ["--batch-size", "2", "--flip-postprocess", "--protocol", "eigen"]
    words = [weights[True], shards, *settings]
    outputs, codes = start_ranks([[*words, "--output", tmp_path / "two.json"]] * 2)
    assert codes == [0, 0], outputs
    assert outputs[1][0] == ""
    alone = start(*words, "--output", tmp_path / "one.json")
    assert alone.communicate()[0] == outputs[0][0]
    assert (tmp_path / "one.json").read_text() == (tmp_path / "two.json").read_text()


@pytest.mark.parametrize(
    ("is_there", "options", "message"),
    [
        (
            True,
            ["--dtype", "bf16"],
            "the ranks disagree on dtype: rank 0 has fp32, rank 1 has bf16",
        ),
        (False, [], "rank 1: "),
    ],
)
def test_ranks_that_would_measure_different_things_end_with_code_2_and_one_message(
    weights, shards, tmp_path, is_there, options, message
):
    other = weights[True] if is_there else tmp_path / "nowhere"
    outputs, codes = start_ranks([[weights[True], shards], [other, shards, *options]])
    assert codes == [2, 2], outputs
    said = "".join(out + err for out, err in outputs)
    assert said.count("error: ") == 1
    assert message in said
    assert "abs_rel" not in said


@pytest.mark.parametrize(
    ("packing", "arguments", "message"),
    [
        ({"ground_truth": "none"}, [], "--ground-truth velodyne"),
        ({"height": 32}, [], "32x96"),
        (None, [], "index.json"),
        ({"ground_truth": "velodyne"}, ["--scaling", "mean"], "expected auto, median or"),
        ({"ground_truth": "annotated"}, ["--protocol", "eigen"], "--ground-truth velodyne"),
        (None, ["--output", "."], ". is a folder; expected the name of a file"),
    ],
)
def test_what_cannot_be_evaluated_ends_with_code_2_and_the_remedy(
    weights, tmp_path, packing, arguments, message
):
    if packing is not None:
        write_small_shards(tmp_path, num_samples=1, **SIZE | packing)
    process = start(weights[True], tmp_path, *arguments)
    _, err = process.communicate()
    assert process.returncode == 2
    assert message in err
    assert "Traceback" not in err


def test_an_evaluation_that_is_told_to_stop_ends_with_code_85_and_no_figures(weights, tmp_path):
    shards = write_small_shards(tmp_path / "shards", 400, ground_truth="velodyne", **SIZE)
    output = tmp_path / "figures.json"
    process = start(weights[True], shards, "--batch-size", "1", "--output", output)
    while not listens_to(process.pid, signal.SIGTERM):
        time.sleep(0.02)
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 85, out + err
    assert err == "error: stopped before all images were evaluated; no metrics were computed\n"
    assert not output.exists()


def listens_to(pid, number):
    """Whether a process has a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return int(caught.split()[1], 16) >> (number - 1) & 1 == 1
