"""Options and fixtures of all tests: device, golden tensors and real frames, random seeds."""

import os
import signal
import sys
from pathlib import Path

import hypothesis
import pytest
import torch
from helpers.device import OnDevice, is_numeric

from md2dist.console import run_command

torch.set_num_threads(1)
hypothesis.settings.register_profile("suite", deadline=None)  # nothing is timed in a test
hypothesis.settings.load_profile("suite")
# Child processes handle Ctrl-C even if a script runs the tests in the background, which ignores it.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="device of the numeric tests, cpu or cuda")


def pytest_configure(config):
    try:
        torch.empty(0, device=config.getoption("device"))
    except (RuntimeError, AssertionError) as error:
        device, reason = config.getoption("device"), str(error).splitlines()[0]
        raise pytest.UsageError(f"--device {device} is not usable here: {reason}") from None
    # float32 with its full 24 bits (no TF32), and bit-identical results for identical inputs.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True


def pytest_collection_modifyitems(items):
    for item in items:
        if is_numeric(item.path):
            item.add_marker("numeric")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Creates the tensors of a numeric test and of its fixtures on the device."""
    device = torch.device(item.config.getoption("device"))
    if device.type == "cpu" or not item.get_closest_marker("numeric"):
        return (yield)
    with OnDevice(device):
        return (yield)


@pytest.fixture(scope="session")
def device(pytestconfig) -> torch.device:
    """The device on which numeric tests create their tensors."""
    return torch.device(pytestconfig.getoption("device"))


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


@pytest.fixture
def run_main(monkeypatch, capsys):
    """Runs a command's `main` in this process; returns its exit code and what it prints."""

    def run(main, *words):
        monkeypatch.setattr(sys, "argv", ["program", *map(str, words)])
        code = 0
        try:
            run_command(main)
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def no_account(monkeypatch, tmp_path):
    """W&B as on a machine where nobody has logged in."""
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("WANDB_SERVICE", "WANDB_DATA_DIR"):  # which a run sets
        monkeypatch.setenv(name, "")  # restored after the test
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
