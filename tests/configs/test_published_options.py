"""Options of the published code and of GluonCV are answered with ours."""

import importlib
import re
from pathlib import Path

import pytest

from md2dist.commands.main import COMMANDS, module_of
from md2dist.config import load_config
from md2dist.errors import ConfigError
from md2dist.published_options import GROUPS

COMMAND_FOLDER = Path(__file__).parents[2] / "md2dist" / "commands"
OPTIONS = {name: option for group in GROUPS.values() for name, option in group.items()}
TEXT = """
    data_path log_dir model_name split num_layers dataset png height width disparity_smoothness
    scales min_depth max_depth use_stereo frame_ids batch_size learning_rate num_epochs
    scheduler_step_size v1_multiscale avg_reprojection disable_automasking predictive_mask no_ssim
    weights_init pose_model_input pose_model_type no_cuda num_workers load_weights_folder
    models_to_load log_frequency save_frequency
    eval_stereo eval_mono disable_median_scaling pred_depth_scale_factor ext_disp_to_eval eval_split
    save_pred_disps no_eval eval_eigen_to_benchmark eval_out_dir post_process
    image_path ext pred_metric_depth
    model_zoo model_zoo_pose pretrained_type pretrained_base hybridize start_epoch warmup_epochs
    no_gpu gpu eval_model resume_depth resume_pose
    input_format prediction_only use_depth output_format output_path
"""
LISTED = TEXT.split()


def refusal(override):
    with pytest.raises(ConfigError) as caught:
        load_config([], [override])
    return str(caught.value)


def test_the_table_holds_every_option_of_theirs_once():
    assert sorted(LISTED) == sorted(name for group in GROUPS.values() for name in group)


@pytest.mark.parametrize("name", LISTED)
def test_each_option_says_what_takes_its_place_or_why_nothing_does(name):
    assert any(OPTIONS[name])
    answer = refusal(f"{name}=1").partition("; ")[2]
    assert f"option {name} " in answer or f".{name}?" in answer


@pytest.mark.parametrize(
    ("override", "answer"),
    [
        ("learning_rate=1e-4", "the published option learning_rate is optim.lr here"),
        ("optim.learning_rate=1e-4", "the published option learning_rate is optim.lr here"),
        ("optimizer.learning-rate=1e-4", "the published option learning_rate is optim.lr here"),
        ("frame_ids=[0,-1,1]", "is data.frame_offsets (without 0, ascending) here"),
        ("png=true", "png has no counterpart here: packing reads PNG and JPEG alike"),
        ("loss.disable_automasking=true", "is loss.use_auto_mask=false here"),
        (
            "batch_size=12",
            "is optim.micro_batch_size (per GPU) or optim.global_batch_size (of all)",
        ),
        ("num_epochs=20", "did you mean optim.num_epochs?"),
        ("load_weights_folder=w", "is network.init_from (or --checkpoint to evaluate) here"),
        ("warmup_epochs=1", "GluonCV's option warmup_epochs is optim.warmup_steps here"),
    ],
)
def test_an_option_of_theirs_is_answered_with_ours(override, answer):
    assert refusal(override).startswith(f"{override}: unknown setting; ")
    assert answer in refusal(override)


@pytest.mark.parametrize("text", ["learning_rate: 1e-4", "train: {learning_rate: 1e-4}"])
def test_an_option_of_theirs_in_a_file_is_answered_with_ours(tmp_path, text):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"run\.yaml: .*learning_rate is optim\.lr here$"):
        load_config([tmp_path / "run.yaml"])


def test_a_setting_that_looks_like_none_of_theirs_is_still_answered_with_similar_ones():
    assert refusal("optim.lrr=1").endswith("did you mean optim.lr?")


@pytest.mark.parametrize("name", LISTED)
def test_settings_and_commands_that_take_the_place_of_an_option_exist(name):
    for code in re.findall(r"`([^`]+)`", " ".join(OPTIONS[name])):
        if match := re.fullmatch(r"([a-z]+)\.(\w+)(=.*)?", code):
            assert hasattr(getattr(load_config(), match[1]), match[2])
            load_config([], [code] if match[3] else [])
        if match := re.match(r"md2dist ([\w-]+)(.*)", code):
            assert match[1] in COMMANDS
            files = [
                *COMMAND_FOLDER.glob("options/*.py"),
                COMMAND_FOLDER / f"{module_of(match[1])}.py",
            ]
            source = "".join(file.read_text() for file in files)
            for option in re.findall(r"--[\w-]+", match[2]):
                assert f'"{option}"' in source, code


@pytest.mark.parametrize(
    ("module", "words", "answer"),
    [
        (
            "train",
            ["--learning_rate", "1e-4"],
            "the published option learning_rate is optim.lr here",
        ),
        ("evaluate", ["--eval_mono"], "eval_mono is md2dist evaluate --scaling median here"),
        ("predict", ["--image_path=x"], "image_path is md2dist predict --input here"),
        ("train", ["--config", "a", "--colour"], None),
    ],
)
def test_a_command_answers_options_of_theirs(module, words, answer, monkeypatch, capsys):
    command = importlib.import_module(f"md2dist.commands.{module}")
    monkeypatch.setattr("sys.argv", [module, *words])
    with pytest.raises(SystemExit):
        command.main()
    last = capsys.readouterr().err.splitlines()[-1]
    assert answer in last if answer else "option" not in last
