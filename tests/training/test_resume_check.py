import pytest
import torch
from helpers.checkpoints import resume_state

from md2dist.config import load_config, save_config
from md2dist.errors import CheckpointError
from md2dist.model import MonodepthModel
from md2dist.runs.checkpoint_folder import Checkpoint
from md2dist.runs.checkpoint_names import STATES_NAME
from md2dist.training.batch_plan import BatchPlan
from md2dist.training.resolved_settings import resolve
from md2dist.training.resume_check import check_method, check_networks, describe_changes


def checkpoint_of(folder, **changes):
    return Checkpoint(folder, resume_state(4, **changes))


def test_only_changed_settings_are_listed(tmp_path):
    before, now = load_config(), load_config([], ["optim.lr=0.5", "data.frame_offsets=[1]"])
    save_config(before, tmp_path / "config.yaml")
    checkpoint = checkpoint_of(tmp_path)
    assert describe_changes(checkpoint, before, {}) == []
    assert describe_changes(checkpoint, now, {}) == [
        "data.frame_offsets: (-1, 1) -> (1,)",
        "optim.lr: 0.0001 -> 0.5",
    ]


def test_open_settings_are_compared_by_their_resolved_values(tmp_path):
    now = load_config([], ["optim.global_batch_size=24"])
    save_config(load_config(), tmp_path / "config.yaml")
    used = resolve(load_config([], ["precision.dtype=bf16"]), BatchPlan(24, 12, 2), 1)
    checkpoint = checkpoint_of(tmp_path, resolved=used)
    assert describe_changes(checkpoint, now, used) == []
    alike = resolve(load_config([], ["precision.dtype=fp32"]), BatchPlan(24, 12, 1), 2)
    assert describe_changes(checkpoint, now, alike) == [
        "optim.grad_accum_steps: 2 -> 1",
        "precision.dtype: bf16 -> fp32",
        "ranks: 1 -> 2",
    ]
    unknown = checkpoint_of(tmp_path)
    assert describe_changes(unknown, now, alike) == ["optim.global_batch_size: None -> 24"]


@pytest.mark.parametrize("text", ["optim:\n  momentum: 0.9\n", "- no\n", None])
def test_unreadable_settings_are_reported_and_do_not_stop_the_run(tmp_path, text):
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    (message,) = describe_changes(checkpoint_of(tmp_path), load_config(), {})
    assert "cannot be compared" in message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.use_auto_mask=false", "loss.use_auto_mask=True, now it is False"),
        ("data.use_true_intrinsics=true", "data.use_true_intrinsics=False, now it is True"),
        ("data.use_stereo=true", "data.use_stereo=False, now it is True"),
        ("data.frame_offsets=[1]", r"data.frame_offsets=\(-1, 1\), now it is \(1,\)"),
        ("network.pose_type=shared", "network.pose_type=separate_resnet, now it is shared"),
        ("network.num_layers=50", "network.num_layers=18, now it is 50"),
        ("network.init_from=other", "network.init_from=None, now it is other"),
        ("network.weights=scratch", "network.weights=imagenet, now it is scratch"),
    ],
)
def test_another_experiment_is_refused_in_the_folder_of_the_first(tmp_path, override, message):
    path = tmp_path / "config.yaml"
    save_config(load_config(), path)
    with pytest.raises(CheckpointError, match=f"started with {message}: .*log.run_dir"):
        check_method(checkpoint_of(tmp_path), load_config([], [override]))
    check_method(checkpoint_of(tmp_path), load_config([], [override, "checkpoint.resume=must"]))


def test_other_initial_networks_are_another_experiment(tmp_path):
    path = tmp_path / "config.yaml"
    start = "network={init_from: a, init_networks: [encoder, depth]}"
    save_config(load_config([], [start]), path)
    check_method(
        checkpoint_of(tmp_path),
        load_config([], [start.replace("encoder, depth", "depth, encoder")]),
    )
    with pytest.raises(CheckpointError, match=r"started with network\.init_networks="):
        check_method(checkpoint_of(tmp_path), load_config([], [start.replace("encoder, ", "")]))


@pytest.mark.parametrize(
    "override",
    [
        *("optim.lr=0.5", "optim.num_epochs=30", "data.use_flip=false", "network.weights=r18.pth"),
        *("precision.dtype=fp16", "data.num_workers=0", "network.freeze_batchnorm=true"),
    ],
)
def test_settings_that_may_change_are_no_other_experiment(tmp_path, override):
    path = tmp_path / "config.yaml"
    save_config(load_config([], ["network.init_from=first"]), path)
    check_method(checkpoint_of(tmp_path), load_config([], [override]))
    check_method(checkpoint_of(tmp_path), load_config([], [override, "network.init_from=first/"]))
    path.write_text("optim:\n  momentum: 0.9\n")  # of another version
    check_method(checkpoint_of(tmp_path), load_config([], [override]))


@pytest.mark.parametrize(
    "words",
    [
        ["data.use_stereo=true", "data.frame_offsets=[]"],
        ["loss.use_predictive_mask=true", "loss.use_auto_mask=false"],
    ],
)
def test_other_networks_are_left_to_the_check_of_the_networks(tmp_path, words):
    path = tmp_path / "config.yaml"
    save_config(load_config(), path)
    check_method(checkpoint_of(tmp_path), load_config([], words))


def test_a_run_resumes_with_the_networks_that_it_was_started_with(tmp_path):
    mono, stereo = load_config(), load_config([], ["data.frame_offsets=[]", "data.use_stereo=true"])
    for config, name in ((mono, "mono"), (stereo, "stereo")):
        folder = tmp_path / name / "checkpoints" / "step-00000004"
        folder.mkdir(parents=True)
        model = MonodepthModel.from_config(config)
        torch.save({"module": model.state_dict()}, folder / STATES_NAME)
        check_networks(model, folder)
    fewer, more = "encoder, depth", "encoder, depth, pose_encoder, pose"
    words = (
        rf"started with the networks {more}, now they are {fewer};.*network\.init_from={tmp_path}"
    )
    with pytest.raises(CheckpointError, match=words):
        check_networks(model, tmp_path / "mono" / "checkpoints" / "step-00000004")
    words = rf"started with the networks {fewer}, now they are {more};.*a new log\.run_dir$"
    with pytest.raises(CheckpointError, match=words):
        check_networks(MonodepthModel.from_config(mono), folder)
