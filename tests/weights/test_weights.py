"""The published four files: layout, round trip, and what is said of files that do not fit."""

import errno

import pytest
import torch
from helpers.checkpoints import flip_a_byte

from md2dist.config import load_config
from md2dist.errors import WeightsError
from md2dist.model import MonodepthModel
from md2dist.runs.checkpoint_names import STATES_NAME
from md2dist.weights import export_published, import_published

SMALL = ("data.height=64", "data.width=96")
STEREO = ("data.frame_offsets=[]", "data.use_stereo=true")
BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def make_model(*overrides: str, seed: int = 0) -> MonodepthModel:
    """A model whose every tensor, statistics included, is random."""
    model = MonodepthModel.from_config(load_config(overrides=[*SMALL, *overrides]))
    generator = torch.Generator().manual_seed(seed)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.1, 1, generator=generator)
        else:
            tensor.fill_(seed + 7)
    return model


def encoder_keys(num_blocks, num_convolutions):
    """The keys of encoder.pth, in order, spelt from the description of the layout."""
    keys = ["conv1.weight", *(f"bn1.{name}" for name in BATCH_NORM)]
    for stage, number in enumerate(num_blocks, start=1):
        for block in range(number):
            prefix = f"layer{stage}.{block}"
            for index in range(1, num_convolutions + 1):
                keys.append(f"{prefix}.conv{index}.weight")
                keys += [f"{prefix}.bn{index}.{name}" for name in BATCH_NORM]
            if block == 0 and (stage > 1 or num_convolutions == 3):
                keys.append(f"{prefix}.downsample.0.weight")
                keys += [f"{prefix}.downsample.1.{name}" for name in BATCH_NORM]
    return [f"encoder.{key}" for key in [*keys, "fc.weight", "fc.bias"]]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The files of a ResNet-18 and of a ResNet-50, by depth: {name: state dict}."""
    states = {}
    for num_layers in (18, 50):
        folder = tmp_path_factory.mktemp(f"r{num_layers}")
        export_published(make_model(f"network.num_layers={num_layers}"), folder)
        states[num_layers] = {
            path.stem: torch.load(path, weights_only=True) for path in sorted(folder.iterdir())
        }
    return states


@pytest.mark.parametrize(
    ("num_layers", "num_blocks", "num_convolutions"),
    [(18, (2, 2, 2, 2), 2), (50, (3, 4, 6, 3), 3)],
)
def test_both_encoders_have_torchvisions_names_in_order_and_a_classifier(
    exported, num_layers, num_blocks, num_convolutions
):
    keys = encoder_keys(num_blocks, num_convolutions)
    encoder, pose_encoder = exported[num_layers]["encoder"], exported[num_layers]["pose_encoder"]
    assert list(encoder) == [*keys, "height", "width", "use_stereo"]
    assert list(pose_encoder) == keys
    assert (encoder["height"], encoder["width"], encoder["use_stereo"]) == (64, 96, False)
    assert encoder["encoder.conv1.weight"].shape == (64, 3, 7, 7)
    assert pose_encoder["encoder.conv1.weight"].shape == (64, 6, 7, 7)
    num_features = {18: 512, 50: 2048}[num_layers]
    for state in (encoder, pose_encoder):
        assert state["encoder.fc.weight"].shape == (1000, num_features)
        assert not state["encoder.fc.weight"].any()
        assert not state["encoder.fc.bias"].any()


def test_the_encoder_of_a_resnet_18_has_122_tensors(exported):
    assert len(exported[18]["pose_encoder"]) == 122
    assert len(exported[18]["encoder"]) == 122 + 3


@pytest.mark.parametrize(
    ("num_layers", "inputs"),
    [
        (18, (512, 512, 256, 256, 128, 128, 64, 96, 32, 16)),
        (50, (2048, 1280, 256, 640, 128, 320, 64, 96, 32, 16)),
    ],
)
def test_the_depth_decoder_has_ten_convolutions_and_four_heads(exported, num_layers, inputs):
    outputs = (256, 256, 128, 128, 64, 64, 32, 32, 16, 16)
    shapes = {}
    for index, (out, number) in enumerate(zip(outputs, inputs, strict=True)):
        shapes[f"decoder.{index}.conv.conv.weight"] = (out, number, 3, 3)
        shapes[f"decoder.{index}.conv.conv.bias"] = (out,)
    for index, number in enumerate((16, 32, 64, 128), start=10):
        shapes[f"decoder.{index}.conv.weight"] = (1, number, 3, 3)
        shapes[f"decoder.{index}.conv.bias"] = (1,)
    state = exported[num_layers]["depth"]
    assert [(key, tuple(state[key].shape)) for key in state] == list(shapes.items())
    assert len(state) == 28


@pytest.mark.parametrize(("num_layers", "num_features"), [(18, 512), (50, 2048)])
def test_the_pose_decoder_has_four_convolutions(exported, num_layers, num_features):
    state = exported[num_layers]["pose"]
    assert [(key, tuple(state[key].shape)) for key in state] == [
        ("net.0.weight", (256, num_features, 1, 1)),
        ("net.0.bias", (256,)),
        ("net.1.weight", (256, 256, 3, 3)),
        ("net.1.bias", (256,)),
        ("net.2.weight", (256, 256, 3, 3)),
        ("net.2.bias", (256,)),
        ("net.3.weight", (12, 256, 1, 1)),
        ("net.3.bias", (12,)),
    ]


@pytest.mark.parametrize("overrides", [(), STEREO, ("data.use_stereo=true",)])
def test_the_import_of_an_export_gives_the_same_bits(tmp_path, overrides):
    model, other = make_model(*overrides), make_model(*overrides, seed=1)
    model.to(memory_format=torch.channels_last)
    export_published(model, tmp_path / "new" / "folder")
    import_published(other, tmp_path / "new" / "folder")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    conv1 = torch.load(tmp_path / "new" / "folder" / "encoder.pth")["encoder.conv1.weight"]
    assert conv1.is_contiguous()
    num_files = 2 if overrides == STEREO else 4
    assert len(list((tmp_path / "new" / "folder").iterdir())) == num_files


def test_a_model_without_a_pose_network_reads_two_of_four_files(tmp_path):
    model, stereo = make_model(), make_model(*STEREO, seed=1)
    export_published(model, tmp_path)
    import_published(stereo, tmp_path)
    assert torch.equal(stereo.depth.heads[0].weight, model.depth.heads[0].weight)


def test_an_export_beside_the_pose_network_of_another_model_is_refused(tmp_path):
    export_published(make_model(), tmp_path)
    with pytest.raises(WeightsError, match=r"pose_encoder.pth and pose.pth of another model"):
        export_published(make_model(*STEREO), tmp_path)


@pytest.mark.parametrize("name", ["checkpoints", STATES_NAME])
def test_an_export_into_the_folder_of_a_run_or_checkpoint_is_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(WeightsError, match=r"is the folder of a run or a checkpoint"):
        export_published(make_model(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_weights_that_are_not_finite_are_not_exported(tmp_path):
    model = make_model()
    model.depth.heads[1].weight.data[0, 0, 0, 0] = torch.inf
    with pytest.raises(WeightsError, match=r"1 tensors .* first depth\.heads\.1\.weight"):
        export_published(model, tmp_path / "published")
    assert not list(tmp_path.iterdir())


def test_an_export_that_fails_leaves_the_files_as_they_were(tmp_path, monkeypatch):
    export_published(make_model(), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    save = torch.save

    def fill_disk(state, file):
        save(state, file)
        if "pose.pth" in str(file.name):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", fill_disk)
    with pytest.raises(OSError, match="No space left"):
        export_published(make_model(seed=1), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_of_another_depth_is_named_with_the_setting_that_fits_it(tmp_path):
    export_published(make_model("network.num_layers=50"), tmp_path)
    with pytest.raises(
        WeightsError,
        match=r"encoder\.pth is a ResNet-50; .* is a ResNet-18: set network\.num_layers=50",
    ):
        import_published(make_model(), tmp_path)


def edit(path, change):
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


FAULTS = {
    "lacks two": (
        "depth",
        lambda state: (state.pop("decoder.3.conv.conv.bias"), state.pop("decoder.13.conv.weight")),
        r"depth\.pth .*2 missing \(decoder\.3\.conv\.conv\.bias, decoder\.13\.conv\.weight\)",
    ),
    "has more": (
        "pose",
        lambda state: state.update({f"net.{i}.weight": torch.zeros(1) for i in range(4, 9)}),
        r"pose\.pth .*5 unexpected \(net\.4\.weight, net\.5\.weight, net\.6\.weight, net\.7",
    ),
    "is misshaped": (
        "pose_encoder",
        lambda state: state.update({"encoder.conv1.weight": torch.zeros(64, 3, 7, 7)}),
        r"conv1\.weight \(64, 3, 7, 7\) instead of \(64, 6, 7, 7\)",
    ),
    "holds no tensor": (
        "pose",
        lambda state: state.update({"net.3.bias": 5}),
        r"net\.3\.bias int instead of \(12,\)",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_does_not_fit_is_named_and_nothing_is_loaded(tmp_path, fault):
    name, change, message = FAULTS[fault]
    export_published(make_model(), tmp_path)
    edit(tmp_path / f"{name}.pth", change)
    other = make_model(seed=1)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(WeightsError, match=message):
        import_published(other, tmp_path)
    assert all(torch.equal(tensor, before[key]) for key, tensor in other.state_dict().items())


def test_a_file_that_is_missing_cut_off_or_full_of_code_is_named(tmp_path):
    export_published(make_model(), tmp_path)
    path = tmp_path / "depth.pth"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match=r"depth\.pth is damaged"):
        import_published(make_model(), tmp_path)
    torch.save(make_model(*STEREO).depth, path)  # a pickled module: reading it would run code
    with pytest.raises(WeightsError, match=r"depth\.pth refers to md2dist.*could run code"):
        import_published(make_model(), tmp_path)
    torch.save([1, 2], path)
    with pytest.raises(WeightsError, match=r"depth\.pth has no state dict"):
        import_published(make_model(), tmp_path)
    path.unlink()
    with pytest.raises(WeightsError, match=r"no weight file .*depth\.pth"):
        import_published(make_model(), tmp_path)


@pytest.mark.parametrize("name", ["encoder", "depth", "pose_encoder", "pose"])
def test_a_file_in_which_one_bit_has_changed_is_named(tmp_path, name):
    export_published(make_model(), tmp_path)
    path = tmp_path / f"{name}.pth"
    flip_a_byte(path, path.stat().st_size // 2)
    with pytest.raises(WeightsError, match=rf"{name}\.pth is damaged.*Bad CRC-32"):
        import_published(make_model(), tmp_path)


def test_a_file_that_torch_wrote_without_checksums_is_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        export_published(make_model(*STEREO), tmp_path)
    finally:
        torch.serialization.set_crc32_options(True)
    import_published(make_model(*STEREO), tmp_path)


def test_a_folder_that_takes_no_files_is_an_error_of_the_system():
    with pytest.raises(OSError, match=r"/proc/self/\.encoder\.pth"):
        export_published(make_model(), "/proc/self")


def test_files_in_the_format_before_torch_1_6_are_read(tmp_path):
    model, other = make_model(), make_model(seed=1)
    export_published(model, tmp_path)
    for path in tmp_path.iterdir():
        state = torch.load(path, weights_only=True)
        torch.save(state, path, _use_new_zipfile_serialization=False)
    import_published(other, tmp_path)
    assert torch.equal(other.encoder.conv1.weight, model.encoder.conv1.weight)
