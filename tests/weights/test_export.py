"""The command that writes the published files."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_loading import STEREO, save_run

from md2dist.weights import export_published, load_model

LAUNCH = Path(__file__).parents[2] / "launch"
COMMAND = LAUNCH / "export.py"
IMAGES = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def run_command(monkeypatch, *arguments, command="export"):
    """Runs a command in this process and returns its exit code."""
    monkeypatch.setattr(sys, "argv", [f"{command}.py", *map(str, arguments)])
    try:
        runpy.run_path(str(LAUNCH / f"{command}.py"), run_name="__main__")
    except SystemExit as end:
        return end.code
    return 0


@pytest.mark.parametrize(
    "overrides", [(), STEREO, ("data.use_stereo=true",), ("network.pose_num_layers=34",)]
)
@pytest.mark.parametrize("place", ["run", "run/checkpoints/best", "published"])
def test_what_is_exported_predicts_the_same_depth_and_can_be_exported_again(
    overrides, place, tmp_path, monkeypatch, capsys
):
    model, checkpoint = save_run(tmp_path / "run", "precision.dtype=fp32", *overrides)
    (checkpoint.parent / "best").symlink_to(checkpoint.name)
    export_published(model, tmp_path / "published")
    output = tmp_path / "new" / "folder"
    words = ["--checkpoint", tmp_path / place, "--output", output]
    assert run_command(monkeypatch, *words) == 0
    said = capsys.readouterr().out.splitlines()
    names = ["encoder", "depth"] + ["pose_encoder", "pose"] * (overrides != STEREO)
    assert said == [str(output / f"{name}.pth") for name in names]
    assert sorted(output.iterdir()) == sorted(map(Path, said))
    exported = load_model(output)
    disparity = model.eval().predict_scaled_disparity(IMAGES)
    assert torch.equal(exported.predict_scaled_disparity(IMAGES), disparity)
    assert (exported.height, exported.width) == (64, 96)
    assert exported.use_stereo == model.use_stereo


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ("loss.use_predictive_mask=true", "loss.use_auto_mask=false"),
            "The predictive mask is omitted",
        ),
        (("loss.min_depth=0.4",), "loss.min_depth=0.4 and loss.max_depth=100 are omitted"),
    ],
)
def test_omissions_of_the_published_files_are_reported(
    overrides, told, tmp_path, monkeypatch, capsys
):
    save_run(tmp_path / "run", *overrides)
    words = ["--checkpoint", tmp_path / "run", "--output", tmp_path / "out"]
    assert run_command(monkeypatch, *words) == 0
    *files, omission = capsys.readouterr().out.splitlines()
    assert len(files) == 4
    assert omission.startswith(told)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--checkpoint", "nowhere"], "nowhere is neither a run"),
        (["--output", "run"], "run is the folder of a run or a checkpoint"),
        (["--output", "run/checkpoints/step-00000007"], "run/checkpoints/step-00000007 is the"),
        (["--output", "s3://bucket/x"], "s3://bucket/x is an address"),
    ],
)
def test_what_cannot_be_exported_ends_with_code_2_and_one_line(
    words, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    save_run(Path("run"))
    Path("file").write_text("in the way")
    words = ["--checkpoint", "run", "--output", "out", *words]
    assert run_command(monkeypatch, *words) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


@pytest.mark.slow
def test_a_file_in_the_way_of_the_folder_is_named_without_a_traceback(tmp_path):
    save_run(tmp_path / "run")
    (tmp_path / "file").write_text("in the way")
    words = ["--checkpoint", tmp_path / "run", "--output", tmp_path / "file"]
    process = subprocess.run([sys.executable, COMMAND, *words], capture_output=True, text=True)
    assert process.returncode == 2
    assert process.stderr == f"error: {tmp_path / 'file'} cannot be written: File exists\n"
