"""Models from runs, checkpoints and published folders; first weights for training."""

import re
import shutil

import pytest
import torch
from helpers.checkpoints import resume_state, write_checkpoint

from md2dist.config import load_config, save_config
from md2dist.errors import CheckpointError, ConfigError, WeightsError
from md2dist.model import MonodepthModel
from md2dist.weights import export_published, find_model, initialise, load_model
from md2dist.weights.run_folder import import_checkpoint, list_networks

STEREO = ("data.frame_offsets=[]", "data.use_stereo=true")


def make_config(*overrides: str):
    return load_config(overrides=["data.height=64", "data.width=96", *overrides])


def make_model(*overrides: str, seed: int = 0) -> MonodepthModel:
    torch.manual_seed(seed)
    return MonodepthModel.from_config(make_config(*overrides))


def save_run(folder, *overrides: str, seed: int = 0):
    """Writes a run's folder with one checkpoint, as DeepSpeed lays it out."""
    model, config = make_model(*overrides, seed=seed), make_config(*overrides)
    checkpoint = write_checkpoint(
        folder / "checkpoints", resume_state(7), model.state_dict(), config
    )
    (folder / "checkpoints" / "latest").write_text("step-00000007\n")
    return model, checkpoint


def assert_same_weights(model, other):
    state = other.state_dict()
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("overrides", [STEREO, ("network.num_layers=34",)])
def test_a_run_is_loaded_by_its_folder_and_by_its_checkpoint(tmp_path, overrides):
    model, checkpoint = save_run(tmp_path, *overrides)
    for path in (tmp_path, str(tmp_path), checkpoint):
        loaded = load_model(path)
        assert_same_weights(model, loaded)
        assert not loaded.training
        assert (loaded.height, loaded.width) == (64, 96)


def test_a_relative_path_to_a_checkpoint_is_found(tmp_path, monkeypatch):
    model, checkpoint = save_run(tmp_path)
    monkeypatch.chdir(checkpoint)
    assert_same_weights(model, load_model("."))


def test_a_link_or_a_run_is_found_as_the_checkpoint_that_it_means_now(tmp_path, monkeypatch):
    model, checkpoint = save_run(tmp_path / "run")
    best = checkpoint.parent / "best"
    best.symlink_to(checkpoint.name)
    for path in (tmp_path / "run", best, checkpoint):
        assert find_model(path) == (checkpoint, 7)
    assert_same_weights(load_model(best), model)
    monkeypatch.chdir(checkpoint)
    assert find_model(".") == (checkpoint, 7)
    export_published(model, tmp_path / "published")
    assert find_model(str(tmp_path / "published")) == (tmp_path / "published", None)


def test_the_settings_are_those_of_the_checkpoint(tmp_path):
    save_run(tmp_path)
    save_config(make_config("network.num_layers=50"), tmp_path / "config.yaml")
    assert load_model(tmp_path).encoder.num_layers == 18


@pytest.mark.parametrize("overrides", [(), STEREO, ("data.use_stereo=true",)])
def test_a_published_folder_says_itself_what_model_it_is(tmp_path, overrides):
    model = make_model(*overrides)
    export_published(model, tmp_path)
    loaded = load_model(tmp_path)
    assert_same_weights(model, loaded)
    assert not loaded.training
    assert (loaded.height, loaded.width, loaded.encoder.num_layers) == (64, 96, 18)
    assert loaded.use_stereo == model.use_stereo
    assert loaded.frame_offsets == model.frame_offsets
    assert loaded.dtype == torch.float32


@pytest.mark.parametrize("setting", ["fp32", "bf16"])
def test_a_model_computes_in_the_type_of_its_run_or_in_the_one_that_is_asked_for(tmp_path, setting):
    words = (f"precision.dtype={setting}", "deepspeed.zero_stage=1")  # excludes training in fp16
    model, _ = save_run(tmp_path / "run", *words)
    export_published(model, tmp_path / "published")
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    types = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    for folder, own in (("run", setting), ("published", "fp32")):
        assert load_model(tmp_path / folder).dtype == types[own]
        disparities = set()
        for name, dtype in types.items():
            loaded = load_model(tmp_path / folder, dtype=name)
            assert loaded.dtype == dtype
            assert_same_weights(loaded, model)
            disparities.add(loaded.predict_scaled_disparity(images).mean().item())
        assert len(disparities) == 3


def test_a_mono_folder_without_one_of_its_pose_files_names_it(tmp_path):
    export_published(make_model(), tmp_path)
    (tmp_path / "pose_encoder.pth").unlink()
    with pytest.raises(WeightsError, match=r"no weight file .*pose_encoder\.pth"):
        load_model(tmp_path)


def test_an_encoder_file_without_the_three_settings_is_refused(tmp_path):
    export_published(make_model(), tmp_path)
    shutil.copy(tmp_path / "pose_encoder.pth", tmp_path / "encoder.pth")
    with pytest.raises(WeightsError, match="no valid height, width, use_stereo"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("height", "words"), [(100, "height=100: expected"), ("x", "valid height")]
)
def test_an_encoder_file_of_a_wrong_size_is_named(tmp_path, height, words):
    export_published(make_model(), tmp_path)
    path = tmp_path / "encoder.pth"
    torch.save(torch.load(path) | {"height": height}, path)
    with pytest.raises(WeightsError, match=rf"encoder\.pth .*{words}"):
        load_model(tmp_path)


def test_a_path_that_is_no_model_names_what_was_expected(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(
            CheckpointError, match=r"is neither a run .* nor a checkpoint .* nor published"
        ):
            load_model(path)


def test_scratch_keeps_the_random_weights():
    model = make_model()
    initialise(model, "scratch")
    assert_same_weights(model, make_model())


def test_other_weights_are_imagenets(tmp_path):
    path, source = tmp_path / "imagenet.pth", make_model(seed=1).encoder
    torch.save(source.state_dict(), path)
    model = make_model()
    initialise(model, str(path))
    assert torch.equal(model.encoder.conv1.weight, source.conv1.weight)


def test_a_start_from_a_run_or_a_published_folder_needs_no_imagenet_file(tmp_path):
    source, checkpoint = save_run(tmp_path / "run", seed=1)
    export_published(source, tmp_path / "published")
    for path in (tmp_path / "run", checkpoint, tmp_path / "published"):
        model = make_model()
        initialise(model, "/no/such/file.pth", str(path))
        assert_same_weights(model, source)


def test_a_stereo_model_starts_from_the_depth_networks_of_a_mono_run(tmp_path):
    source, _ = save_run(tmp_path, seed=1)
    model = make_model(*STEREO)
    initialise(model, "scratch", str(tmp_path))
    assert torch.equal(model.depth.heads[0].weight, source.depth.heads[0].weight)


@pytest.mark.parametrize("kind", ["run", "published"])
def test_a_model_starts_from_some_networks_and_the_others_from_imagenet(tmp_path, kind):
    source, _ = save_run(tmp_path / "run", *STEREO, seed=1)
    export_published(source, tmp_path / "published")
    imagenet = make_model(seed=2).encoder
    torch.save(imagenet.state_dict(), tmp_path / "imagenet.pth")
    model = make_model("data.use_stereo=true")
    arguments = str(tmp_path / "imagenet.pth"), str(tmp_path / kind), ("encoder", "depth")
    initialise(model, *arguments)
    assert_same_weights(model.encoder, source.encoder)
    assert_same_weights(model.depth, source.depth)
    assert torch.equal(model.pose_encoder.bn1.weight, imagenet.bn1.weight)
    assert torch.equal(model.pose_encoder.conv1.weight[:, 3:], imagenet.conv1.weight / 2)
    assert_same_weights(model.pose, make_model().pose)
    with pytest.raises(ConfigError, match=r"init_networks has mask, but .* are encoder, depth,"):
        initialise(model, "scratch", str(tmp_path / kind), ("mask",))


def test_networks_without_a_published_file_are_not_read_from_published_weights(tmp_path):
    source = make_model("network.pose_type=shared", seed=1)
    export_published(source, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["depth.pth", "encoder.pth"]
    model = make_model("network.pose_type=posecnn")
    initialise(model, "scratch", str(tmp_path))
    assert_same_weights(model.depth, source.depth)
    assert_same_weights(model.pose, make_model("network.pose_type=posecnn").pose)
    with pytest.raises(WeightsError, match="has no pose: it is not published"):
        initialise(model, "scratch", str(tmp_path), ("pose",))


def test_a_mono_model_does_not_start_from_a_stereo_run_or_another_depth(tmp_path):
    save_run(tmp_path, *STEREO)
    with pytest.raises(WeightsError, match=r"missing \(pose_encoder\.conv1\.weight"):
        initialise(make_model(), "scratch", str(tmp_path))
    with pytest.raises(WeightsError, match=r"is a ResNet-18; .*set network\.num_layers=18"):
        initialise(make_model("network.num_layers=34"), "scratch", str(tmp_path))


def test_a_model_with_a_pose_network_is_told_that_published_stereo_weights_have_none(tmp_path):
    source = make_model(*STEREO, seed=1)
    export_published(source, tmp_path)
    words = rf"^{tmp_path} has no pose network .*stereo alone"
    for mode in ((), ("data.use_stereo=true",)):
        model = make_model(*mode)
        with pytest.raises(WeightsError, match=words) as told:
            initialise(model, "scratch", str(tmp_path))
        assert "pose_encoder.pth and pose.pth" in str(told.value)
        assert_same_weights(model, make_model(*mode))
        remedy = re.findall(r"data\.\S+=[^\s,]+", str(told.value))
        model = make_model(*mode, *remedy)
        initialise(model, "scratch", str(tmp_path))
        assert_same_weights(model, source)


def test_published_stereo_weights_with_half_a_pose_network_name_the_file_that_is_missing(tmp_path):
    export_published(make_model("data.use_stereo=true"), tmp_path)
    (tmp_path / "pose_encoder.pth").unlink()
    with pytest.raises(WeightsError, match=r"no weight file .*pose_encoder\.pth"):
        initialise(make_model(), "scratch", str(tmp_path))


def test_only_the_networks_of_the_model_are_loaded(tmp_path):
    source, checkpoint = save_run(tmp_path, "data.use_stereo=true", seed=1)
    assert list_networks(checkpoint) == ["encoder", "depth", "pose_encoder", "pose"]
    model = make_model(*STEREO)
    import_checkpoint(model, checkpoint)
    for name in ("encoder", "depth"):
        assert_same_weights(getattr(model, name), getattr(source, name))
