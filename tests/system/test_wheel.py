"""Packing, training and prediction with the installed wheel, without the checkout."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from conftest import SMALL
from helpers.kitti_tree import DRIVE, image_path, write_kitti_tree
from helpers.running_job import ENVIRONMENT, ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built as for a release, but with the build tools of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder]
    done = subprocess.run([*command, ROOT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def program(wheel, tmp_path_factory):
    """The program `md2dist` in an environment with only the wheel and its requirements.

    The requirements are shared with this environment, not downloaded again.
    """
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # A path in a .pth file adds a folder without processing the .pth files in it, one of which
    # adds the checkout.
    (packages / "requirements.pth").write_text(sysconfig.get_path("purelib") + "\n")
    options = ["--no-deps", "--no-index", "--quiet", "--target", packages]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, wheel], check=True)
    return [folder / "bin" / "python", "-m", "md2dist.commands.main"]


def run(program, folder, *words):
    done = subprocess.run(
        [str(word) for word in [*program, *words]],
        cwd=folder,
        env={**os.environ, **ENVIRONMENT, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_contains_the_package_its_configs_and_py_typed(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    sources = [
        path for path in (ROOT / "md2dist").rglob("*") if path.suffix in (".py", ".css", ".typed")
    ]
    expected = {str(path.relative_to(ROOT)) for path in sources}
    expected |= {f"md2dist/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*.yaml")}
    assert {name for name in names if ".dist-info/" not in name} == expected


def test_an_installed_wheel_packs_trains_and_predicts_without_the_checkout(program, tmp_path):
    code = "import md2dist; print(md2dist.__file__)"
    location = Path(run([program[0]], tmp_path, "-c", code).strip())
    assert not location.is_relative_to(ROOT)
    lines = write_kitti_tree(tmp_path / "kitti")
    (tmp_path / "split.txt").write_text("\n".join(lines) + "\n")
    size = ["--height", 64, "--width", 64]
    words = ["--kitti-root", "kitti", "--split", "split.txt", "--output", "shards", *size]
    run(program, tmp_path, "pack", *words)
    settings = ["data.train_shards=shards", "log.run_dir=run", "optim.max_steps=2"]
    run(program, tmp_path, "train", "--config", "configs/mono_stereo.yaml", *SMALL, *settings)
    image = image_path(tmp_path / "kitti", DRIVE, 1, "l")
    words = ["--checkpoint", "run", "--input", image, "--output", "depths"]
    run(program, tmp_path, "predict", *words)
    assert (tmp_path / "depths" / f"{image.stem}_depth.png").stat().st_size > 0
