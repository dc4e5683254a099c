"""The ready experiments are the 26 lines of the published scripts, as one table states them."""

from pathlib import Path

import pytest
from helpers.documents import TEXTS, blocks_of

from md2dist.config import (
    CheckpointConfig,
    Config,
    DataConfig,
    LogConfig,
    LossConfig,
    NetworkConfig,
    OptimConfig,
    load_config,
)

FOLDER = Path(__file__).parents[2] / "configs" / "experiments"

# Name, mode, width x height, what differs from the recipe of the paper: 20 epochs from ImageNet.
TABLE = """
mono_640x192                   M  640x192
mono_416x128                   M  416x128
mono_1024x320                  M  1024x320 continues mono_640x192
mono_no_pt_640x192             M  640x192  scratch
mono_baseline                  M  640x192  v1 unmasked average
mono_v1_multiscale             M  640x192  v1
mono_no_auto_mask              M  640x192  unmasked
mono_average                   M  640x192  average
mono_predictive_mask           M  640x192  unmasked predictive
mono_stereo_640x192            MS 640x192
mono_stereo_416x128            MS 416x128
mono_stereo_1024x320           MS 1024x320 continues mono_stereo_640x192
mono_stereo_no_pt_640x192      MS 640x192  scratch
mono_stereo_baseline           MS 640x192  v1 unmasked average
mono_stereo_v1_multiscale      MS 640x192  v1
mono_stereo_no_auto_mask       MS 640x192  unmasked
mono_stereo_average            MS 640x192  average
stereo_640x192                 S  640x192
stereo_416x128                 S  416x128
stereo_1024x320                S  1024x320 continues stereo_640x192
stereo_no_pt_640x192           S  640x192  scratch
stereo_baseline                S  640x192  v1 unmasked
mono_odom_640x192              M  640x192
mono_odom_no_pt_640x192        M  640x192  scratch
mono_stereo_odom_640x192       MS 640x192
mono_stereo_odom_no_pt_640x192 MS 640x192  scratch
"""
ROWS = {row.split()[0]: row.split()[1:] for row in TABLE.strip().splitlines()}
NUM_SAMPLES = {"eigen_zhou/train": 39_810, "eigen_full/train": 45_200, "odom/train": 36_671}

every_experiment = pytest.mark.parametrize("name", ROWS)


def split_of(name):
    if "odom" in name:
        return "odom/train"
    return "eigen_full/train" if ROWS[name][0] == "S" else "eigen_zhou/train"


def expected_config(name):
    mode, size, *words = ROWS[name]
    width, height = map(int, size.split("x"))
    is_large = "continues" in words
    step = 10 * (NUM_SAMPLES[split_of(name)] // 12)  # 10 epochs of whole batches
    return Config(
        data=DataConfig(
            height=height,
            width=width,
            frame_offsets=(-1, 1) if "M" in mode else (),
            use_stereo="S" in mode,
        ),
        network=NetworkConfig(
            weights="scratch" if "scratch" in words else "imagenet",
            init_from=f"runs/{words[1]}/checkpoints/step-{step:08d}" if is_large else None,
        ),
        loss=LossConfig(
            use_v1_multiscale="v1" in words,
            use_auto_mask="unmasked" not in words,
            use_average="average" in words,
            use_predictive_mask="predictive" in words,
        ),
        optim=OptimConfig(
            lr=1e-5 if is_large else 1e-4,
            lr_drop_epoch=15,
            num_epochs=5 if is_large else 30 if "scratch" in words else 20,
            micro_batch_size=4 if is_large else 12,
            global_batch_size=4 if is_large else 12,
        ),
        checkpoint=CheckpointConfig(keep_epochs=(9,) if is_continued(name) else ()),
        log=LogConfig(run_dir=f"runs/{name}"),
    )


def is_continued(name):
    return any(row[-2:] == ["continues", name] for row in ROWS.values())


def test_the_table_has_the_26_lines_of_the_published_scripts_and_each_has_a_file():
    assert len(ROWS) == 26
    assert {path.stem for path in FOLDER.iterdir()} == set(ROWS)


@every_experiment
def test_an_experiment_has_exactly_the_settings_of_its_row(name):
    assert load_config([FOLDER / f"{name}.yaml"]) == expected_config(name)


@every_experiment
def test_an_experiment_is_a_few_lines_and_begins_with_its_split(name):
    lines = (FOLDER / f"{name}.yaml").read_text().splitlines()
    assert len(lines) <= 20
    assert lines[0].startswith("# ")
    assert lines[0].endswith(f"split {split_of(name)}")


@pytest.mark.parametrize("split", NUM_SAMPLES)
def test_the_splits_have_the_samples_from_which_the_steps_are_counted(split, shared):
    lines = (shared / "splits" / f"{split}_files.txt").read_text().splitlines()
    assert len(lines) == NUM_SAMPLES[split]


@pytest.mark.parametrize("words", [["mono_640x192"], ["configs/experiments/stereo_baseline.yaml"]])
def test_an_experiment_is_found_or_named_from_any_folder(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = Path(words[0]).stem
    if words[0] == name:
        with pytest.raises(ValueError, match=rf"mean configs/experiments/{name}\.yaml\?$"):
            load_config(words)
    else:
        assert load_config(words) == expected_config(name)


@every_experiment
def test_the_document_trains_and_evaluates_each_experiment_on_shards_of_its_split(name):
    commands = "".join(blocks_of("bash", "docs/experiments.md")).replace("\\\n", " ").splitlines()
    packed = {}  # split and size of each folder of shards
    for command in commands:
        if command.startswith("md2dist pack"):
            words = dict(zip(command.split(), [*command.split()[1:], ""], strict=True))
            size = f"{words.get('--width', 640)}x{words.get('--height', 192)}"
            packed[words["--output"]] = words["--split"], size
    config = f"--config configs/experiments/{name}.yaml "
    [train] = [command for command in commands if config in command]
    shards = train.split("data.train_shards=")[1].split()[0]
    size = ROWS[name][1]
    assert packed[shards] == (split_of(name), size)
    tests = [c for c in commands if f"--checkpoint runs/{name} " in c]
    scored = [packed[command.split("--shards ")[1].split()[0]] for command in tests]
    splits = ["odom/test_09", "odom/test_10"] if "odom" in name else ["eigen/test"]
    assert scored == [(split, size) for split in splits]
    assert f"`{name}`" in TEXTS["docs/experiments.md"]
