"""Shards and checkpoints written by version 0.1.0 can still be read.

tests/fixtures/version_0.1.0.tar.xz holds a folder of shards and a run of two steps on them. To
keep the archive small, every floating-point tensor of the model was filled with `constant(name)`
and the optimizer's moments with 1e-6 before the run was saved.
"""

import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import read_metrics, run_command
from helpers.small_shards import small_image

from md2dist.data.inspection.verification import verify_shards
from md2dist.data.shards import ShardDataset
from md2dist.runs.checkpoint_folder import find_checkpoint
from md2dist.weights import load_model

pytestmark = pytest.mark.slow
ARCHIVE = Path(__file__).parents[1] / "fixtures" / "version_0.1.0.tar.xz"


def constant(name):
    """Returns the value of all elements of the tensor with this name."""
    return 0.5 + zlib.crc32(name.encode()) % 1000 / 1000


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """The folder of the extracted archive: `shards` and `run`."""
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder)  # an archive of our own
    return folder


def test_shards_of_an_earlier_version_are_read_and_verified(earlier):
    shards = ShardDataset(earlier / "shards")
    assert len(shards) == 6
    for number in range(6):
        for view, frame in shards[number].frames.items():
            np.testing.assert_array_equal(frame, small_image(number, view, 64, 64))
    report = verify_shards(str(earlier / "shards"))
    assert (report.faults, report.num_found) == ([], 6)


def test_a_checkpoint_of_an_earlier_version_is_verified_and_its_weights_are_loaded(earlier):
    folder, state = find_checkpoint(earlier / "run" / "checkpoints")
    assert (folder.name, state.step) == ("step-00000002", 2)
    state = load_model(earlier / "run").state_dict()
    assert len(state) > 200
    for name, tensor in state.items():
        if tensor.is_floating_point():
            assert torch.equal(tensor, torch.full_like(tensor, constant(name))), name


def test_a_run_of_an_earlier_version_is_resumed(earlier):
    words = ["--config", earlier / "run" / "config.yaml", f"data.train_shards={earlier}/shards"]
    words += [f"log.run_dir={earlier}/run", "optim.max_steps=3", "checkpoint.resume=must"]
    process = run_command([sys.executable, "launch/train.py", *words])
    assert process.returncode == 0, process.stdout + process.stderr
    assert list(read_metrics(earlier / "run")) == [1, 2, 3]
