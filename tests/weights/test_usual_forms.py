"""Good weights are read in every form in which training scripts and people leave them."""

import re

import numpy as np
import pytest
import torch
from test_loading import STEREO, make_model

from md2dist.errors import WeightsError
from md2dist.weights import export_published, initialise, load_imagenet, load_model

IMAGES = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
FP32 = "precision.dtype=fp32"  # of published weights once they are loaded, on any machine
NETWORKS = ("encoder", "depth", "pose_encoder", "pose")


@pytest.fixture(scope="module")
def model():
    return make_model("data.use_stereo=true", FP32).eval()


@pytest.fixture
def folder(model, tmp_path):
    export_published(model, tmp_path / "weights")
    return tmp_path / "weights"


def read(folder):
    return {name: torch.load(folder / f"{name}.pth") for name in NETWORKS}


def edit(folder, change):
    """Changes the state dict of each file."""
    for path in folder.iterdir():
        torch.save(change(torch.load(path)), path)


def assert_predicts_as(model, path):
    loaded = load_model(path)
    disparity = model.predict_scaled_disparity(IMAGES)
    assert torch.equal(loaded.predict_scaled_disparity(IMAGES), disparity)
    assert loaded.use_stereo == model.use_stereo
    return loaded


def prefix(*words):
    """Adds words to the names of tensors, as wrappers of a module do; settings keep theirs."""

    def add(state):
        return {
            ".".join([*words, name]) if torch.is_tensor(entry) else name: entry
            for name, entry in state.items()
        }

    return add


def count_operations(state):
    names = ["", "encoder.", "encoder.layer1.0."]
    counts = {f"{n}{k}": torch.zeros(1) for n in names for k in ("total_ops", "total_params")}
    return state | counts


def without_counters(state):
    return {name: state[name] for name in state if not name.endswith("num_batches_tracked")}


def with_numbers_of(number):
    return lambda state: (
        state
        | {name: number(state[name]) for name in ("height", "width", "use_stereo") if name in state}
    )


CHANGES = {
    "DataParallel": prefix("module"),
    "torch.compile": prefix("_orig_mod"),
    "both": prefix("module", "_orig_mod"),
    "a compiled part": lambda s: {k.replace(".conv", "._orig_mod.conv", 1): s[k] for k in s},
    "a counter of operations": count_operations,
    "state_dict": lambda state: {"epoch": 19, "state_dict": state},
    "model": lambda state: {"model": state, "optimizer": {"state": {}}},
    "settings beside": lambda s: {"state_dict": s, **{k: s[k] for k in s if k == "height"}},
    "model_state_dict of DataParallel": lambda s: {"model_state_dict": prefix("module")(s)},
    "an epoch": lambda state: state | {"epoch": 19, "loss": 0.1, "note": "final"},
    "numbers of NumPy": with_numbers_of(np.int64),
    "small numbers of NumPy": with_numbers_of(lambda number: np.uint8(number)),
    "floats of NumPy": with_numbers_of(np.float64),
    "tensors for numbers": with_numbers_of(torch.tensor),
    "no counters of batch norm": without_counters,
}


@pytest.mark.parametrize("form", CHANGES)
def test_a_folder_is_read_whatever_its_scripts_added(tmp_path, form):
    model = make_model(*STEREO, FP32).eval()
    export_published(model, tmp_path)
    edit(tmp_path, CHANGES[form])
    assert_predicts_as(model, tmp_path)
    other = make_model(*STEREO, seed=1)
    initialise(other, "scratch", str(tmp_path))
    assert torch.equal(other.encoder.conv1.weight, model.encoder.conv1.weight)


def merge(states):
    return states["encoder"] | states["depth"]


def prefixed(states):
    return {f"{name}.{key}": states[name][key] for name in states for key in states[name]}


FILES = {
    "a dictionary for each network": lambda states, model: states,
    "the same within a checkpoint": lambda states, model: {"model": states, "epoch": 3},
    "the same of DataParallel": lambda s, model: {name: prefix("module")(s[name]) for name in s},
    "encoder and depth together": lambda states, model: merge(states),
    "our names": lambda states, model: (
        model.state_dict() | {"height": 64, "width": 96, "use_stereo": True}
    ),
    "our names within a checkpoint": lambda states, model: (
        {"state_dict": prefix("module")(model.state_dict()), "height": 64, "width": 96}
        | {"use_stereo": np.bool_(True)}
    ),
    "names after those of the files": lambda states, model: {
        name if torch.is_tensor(entry) else name.removeprefix("encoder."): entry
        for name, entry in prefixed(states).items()
    },
}  # fmt: skip


@pytest.mark.parametrize("form", FILES)
def test_one_file_with_everything_is_read(model, folder, tmp_path, form):
    torch.save(FILES[form](read(folder), model), tmp_path / "all.pth")
    loaded = assert_predicts_as(model, tmp_path / "all.pth")
    has_pose = form != "encoder and depth together"
    assert bool(loaded.frame_offsets) == has_pose
    if has_pose:
        other = make_model(seed=1)
        initialise(other, "scratch", str(tmp_path / "all.pth"))
        assert torch.equal(other.pose.head.bias, model.pose.head.bias)


@pytest.mark.parametrize("use_stereo", [True, False])
def test_a_prediction_needs_no_pose_network(folder, tmp_path, use_stereo):
    model = make_model(f"data.use_stereo={use_stereo}", FP32).eval()
    export_published(model, folder)
    for name in ("pose_encoder", "pose"):
        (folder / f"{name}.pth").unlink()
    loaded = assert_predicts_as(model, folder)
    assert loaded.frame_offsets == ()
    export_published(loaded, tmp_path / "again")
    assert_predicts_as(model, tmp_path / "again")
    with pytest.raises(WeightsError, match=r"expected pose_encoder\.pth and pose\.pth; set data"):
        initialise(make_model(), "scratch", str(folder))
    stereo = make_model(*STEREO, seed=1)
    initialise(stereo, "scratch", str(folder))
    assert torch.equal(stereo.encoder.conv1.weight, model.encoder.conv1.weight)


@pytest.mark.parametrize(
    ("missing", "num_heads"), [((13,), 3), ((11, 12, 13), 1), ((12,), 2), ((11, 13), 1)]
)
def test_a_prediction_needs_the_finest_scale_alone(model, folder, missing, num_heads):
    names = [f"decoder.{n}.conv.{kind}" for n in missing for kind in ("weight", "bias")]
    state = torch.load(folder / "depth.pth")
    torch.save({name: state[name] for name in state if name not in names}, folder / "depth.pth")
    assert len(assert_predicts_as(model, folder).depth.heads) == num_heads
    short = [f"decoder.{n}.*" for n in missing]
    with pytest.raises(WeightsError, match=re.escape(f"missing ({', '.join(short)});")):
        initialise(make_model(), "scratch", str(folder))


def test_without_the_finest_scale_nothing_is_predicted(folder):
    state = torch.load(folder / "depth.pth")
    del state["decoder.10.conv.bias"]
    torch.save(state, folder / "depth.pth")
    with pytest.raises(WeightsError, match=r"1 missing \(decoder\.10\.conv\.bias\)"):
        load_model(folder)


def test_whole_groups_of_missing_weights_are_named_by_their_beginning(folder):
    state = torch.load(folder / "depth.pth")
    torch.save({k: state[k] for k in state if "r.1." not in k}, folder / "depth.pth")
    words = r"2 missing \(decoder\.1\.\*\);"
    with pytest.raises(WeightsError, match=words):
        load_model(folder)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            {"a.b": torch.ones(1), "a.c": torch.ones(1)},
            r"other weights .*it has a\.\*; pass a file",
        ),
        ({"epoch": 3}, "other weights .*it has none; pass a file"),
        ({"decoder.0.conv.conv.bias": torch.ones(1)}, "no weights of encoder, only of depth"),
        ({"module.x": torch.ones(1), "x": torch.ones(1)}, "two weights x; expected each once"),
    ],
)
def test_a_file_of_something_else_is_described(tmp_path, content, words):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=rf"x\.pth has {words}"):
        load_model(tmp_path / "x.pth")


def test_a_classifier_in_a_checkpoint_of_dataparallel_is_read(tmp_path):
    encoder = make_model(seed=1).encoder
    state = prefix("module")(encoder.state_dict()) | {"module.fc.bias": torch.ones(1000)}
    torch.save({"epoch": 90, "arch": "resnet18", "state_dict": state}, tmp_path / "r18.pth")
    model = make_model()
    load_imagenet(model, str(tmp_path / "r18.pth"))
    assert torch.equal(model.encoder.conv1.weight, encoder.conv1.weight)


def test_safetensors_are_read_with_the_settings_in_their_header(model, folder, tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    settings = {"height": "64", "width": "96", "use_stereo": "True"}
    for path in list(folder.iterdir()):
        state = {k: v for k, v in torch.load(path).items() if torch.is_tensor(v)}
        save_file(state, path.with_suffix(".safetensors"), settings)
        path.unlink()
    assert_predicts_as(model, folder)
    save_file(model.state_dict(), tmp_path / "all.safetensors", settings)
    assert_predicts_as(model, tmp_path / "all.safetensors")
