import pytest

from md2dist.config import load_config, save_config
from md2dist.errors import CheckpointError
from md2dist.training.batch_plan import BatchPlan
from md2dist.training.resolved_settings import resolve
from md2dist.training.resume_check import check_method, describe_changes


def test_only_what_has_changed_is_told(tmp_path):
    before, now = load_config(), load_config([], ["optim.lr=0.5", "data.frame_offsets=[1]"])
    save_config(before, tmp_path / "config.yaml")
    assert describe_changes(tmp_path / "config.yaml", before, {}, {}) == []
    assert describe_changes(tmp_path / "config.yaml", now, {}, {}) == [
        "data.frame_offsets: (-1, 1) -> (1,)",
        "optim.lr: 0.0001 -> 0.5",
    ]


def test_settings_that_were_left_open_are_compared_by_what_they_came_to(tmp_path):
    path, now = tmp_path / "config.yaml", load_config([], ["optim.global_batch_size=24"])
    save_config(load_config(), path)
    used = resolve(load_config([], ["precision.dtype=bf16"]), BatchPlan(24, 12, 2), 1)
    assert describe_changes(path, now, used, used) == []
    alike = resolve(load_config([], ["precision.dtype=fp32"]), BatchPlan(24, 12, 1), 2)
    assert describe_changes(path, now, used, alike) == [
        "optim.grad_accum_steps: 2 -> 1",
        "precision.dtype: bf16 -> fp32",
        "ranks: 1 -> 2",
    ]
    assert describe_changes(path, now, {}, alike) == ["optim.global_batch_size: None -> 24"]


@pytest.mark.parametrize("text", ["optim:\n  momentum: 0.9\n", "- no\n", None])
def test_settings_that_cannot_be_read_are_told_and_do_not_stop_the_run(tmp_path, text):
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    (told,) = describe_changes(path, load_config(), {}, {})
    assert "cannot be compared" in told


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("loss.use_auto_mask=false", "loss.use_auto_mask=True, now it is False"),
        ("data.use_true_intrinsics=true", "data.use_true_intrinsics=False, now it is True"),
        ("data.use_stereo=true", "data.use_stereo=False, now it is True"),
        ("data.frame_offsets=[1]", r"data.frame_offsets=\(-1, 1\), now it is \(1,\)"),
        ("network.init_from=other", "network.init_from=None, now it is other"),
        ("network.weights=scratch", "network.weights=imagenet, now it is scratch"),
    ],
)
def test_another_experiment_does_not_go_on_in_the_folder_of_the_first(tmp_path, override, told):
    path = tmp_path / "config.yaml"
    save_config(load_config(), path)
    with pytest.raises(CheckpointError, match=f"runs/default was begun with {told}: .*log.run_dir"):
        check_method(path, load_config([], [override]))
    check_method(path, load_config([], [override, "checkpoint.resume=must"]))


@pytest.mark.parametrize(
    "override",
    [
        *("optim.lr=0.5", "optim.num_epochs=30", "data.use_flip=false", "network.weights=r18.pth"),
        *("precision.dtype=fp16", "data.num_workers=0", "network.freeze_batchnorm=true"),
    ],
)
def test_what_may_change_on_the_way_is_no_other_experiment(tmp_path, override):
    path = tmp_path / "config.yaml"
    save_config(load_config([], ["network.init_from=first"]), path)
    check_method(path, load_config([], [override]))
    check_method(path, load_config([], [override, "network.init_from=first/"]))
    path.write_text("optim:\n  momentum: 0.9\n")  # of another version
    check_method(path, load_config([], [override]))


@pytest.mark.parametrize(
    "words",
    [
        ["data.use_stereo=true", "data.frame_offsets=[]"],
        ["loss.use_predictive_mask=true", "loss.use_auto_mask=false"],
    ],
)
def test_other_networks_are_left_to_whoever_loads_their_weights(tmp_path, words):
    path = tmp_path / "config.yaml"
    save_config(load_config(), path)
    check_method(path, load_config([], words))
