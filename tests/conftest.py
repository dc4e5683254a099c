"""Fixtures of all tests: golden tensors and real KITTI frames, fixed random seeds, one thread."""

import os
import signal
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)
# Child processes handle Ctrl-C even if a script runs the tests in the background, which ignores it.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def same_random_numbers():
    """Seeds each test, so that it draws the same numbers alone and among others."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with kitti/, golden/ and splits/; skips the test if it is missing."""
    folder = Path(os.environ.get("MD2DIST_SHARED", ROOT.parent / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip(f"no golden tensors and KITTI frames at {folder}; set MD2DIST_SHARED")
    return folder


@pytest.fixture(scope="session")
def kitti_raw(shared: Path) -> Path:
    """A KITTI raw tree with drives 0001 and 0005 of 2011_09_26."""
    folder = Path(os.environ.get("MD2DIST_KITTI", shared / "kitti")) / "raw"
    if not folder.is_dir():
        pytest.skip(f"no real KITTI frames at {folder}; set MD2DIST_KITTI")
    return folder
