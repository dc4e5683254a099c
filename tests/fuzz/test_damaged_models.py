"""Random damage to weight files, and to the pictures that a model predicts."""

import io

import numpy as np
import pytest
import torch
from fuzz.damage import damaged, damaged_bytes, fuzzed, outcome_of, replaced
from helpers.checkpoints import resume_state, write_checkpoint
from helpers.image_bytes import encode, random_image
from hypothesis import given
from hypothesis import strategies as st

from md2dist.config import load_config
from md2dist.data.image_reader import read_image
from md2dist.errors import Md2distError
from md2dist.model import MonodepthModel
from md2dist.prediction.predictor import predict_files
from md2dist.runs.checkpoint_manifest import write_manifest
from md2dist.runs.checkpoint_names import STATES_NAME
from md2dist.weights import export_published, import_published
from md2dist.weights.files import check_state_dict, read_weights
from md2dist.weights.published import describe_published
from md2dist.weights.run_folder import check_states, list_networks, open_checkpoint

WEIGHTS = {
    "conv1.weight": torch.linspace(-1, 1, 48).reshape(4, 3, 2, 2),
    "bn1.running_var": torch.ones(4),
    "bn1.num_batches_tracked": torch.tensor(3),
}
VALUES = [
    None, 7, -1, 10**30, 0.5, float("nan"), "x" * 300, "\0\n", [1], {}, {"a": 1}, b"x", (),
    torch.tensor(float("nan")), torch.zeros(0), torch.zeros(1).expand(10**6, 10**6, 10**3),
    torch.full((4,), float("inf")), torch.full((4,), -1.0), torch.zeros(4).bool(),
    torch.zeros(4, dtype=torch.complex64), torch.eye(4).to_sparse(), torch.zeros(4, device="meta"),
    torch.quantize_per_tensor(torch.zeros(4), 0.1, 0, torch.quint8), torch.float32, torch.Size([3]),
]  # fmt: skip
PICTURES = {"a.png": ("PNG", {}), "a.jpg": ("JPEG", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"})}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    settings = ["data.height=64", "data.width=96", "data.use_stereo=true", "data.frame_offsets=[]"]
    return MonodepthModel.from_config(load_config(overrides=settings)).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


def save(state, **options):
    stream = io.BytesIO()
    torch.save(state, stream, **options)
    return stream.getvalue()


@pytest.mark.parametrize("is_zip", [True, False])
@fuzzed(40)
@given(data=st.data())
def test_a_damaged_weight_file_is_refused_by_name_or_right(folder, is_zip, data):
    path = folder / "encoder.pth"
    content = save(WEIGHTS, _use_new_zipfile_serialization=is_zip)
    path.write_bytes(data.draw(damaged_bytes(content)))

    def read():
        state = read_weights(path)
        check_state_dict(state, WEIGHTS, path)
        return state

    state = outcome_of(read, path.name)
    if is_zip and not isinstance(state, Exception):  # which holds checksums
        assert all(torch.equal(state[name], WEIGHTS[name]) for name in WEIGHTS)


@fuzzed(40)
@given(data=st.data())
def test_entries_of_other_kinds_in_weights_are_refused_by_name(folder, data):
    path = folder / "encoder.pth"
    names = st.sampled_from([*WEIGHTS, "height", "", "\n", "module", "state_dict", 7])
    changes = data.draw(st.dictionaries(names, st.sampled_from(VALUES), min_size=1, max_size=2))
    path.write_bytes(save({**WEIGHTS, **changes}))
    outcome_of(lambda: check_state_dict(read_weights(path), WEIGHTS, path), path.name)
    outcome_of(lambda: describe_published(folder), path.name)


@fuzzed(40)
@given(data=st.data())
def test_a_checkpoint_of_other_content_is_refused_or_resumed_from(folder, data):
    place = folder / "checkpoints" / "step-00000004"
    path = place / STATES_NAME
    if not place.exists():
        write_checkpoint(place.parent, resume_state(4), WEIGHTS)
    states = {"module": dict(WEIGHTS), "optimizer": {"state": {}}, **resume_state(4).to_json()}
    for _ in range(data.draw(st.integers(1, 2))):
        holder = data.draw(st.sampled_from([states, states["module"]]))
        if isinstance(holder, dict):
            key = data.draw(st.sampled_from([*holder, "x", 7]))
            holder[key] = data.draw(st.sampled_from(VALUES))
    path.write_bytes(save(states))
    write_manifest(place, resume_state(4))
    checkpoint = open_checkpoint(place)
    outcome_of(lambda: check_states(checkpoint), STATES_NAME, "module")
    outcome_of(lambda: list_networks(place), STATES_NAME)


@pytest.mark.parametrize("name", ["encoder", "depth"])
@fuzzed(6)
@given(data=st.data())
def test_damaged_published_files_change_nothing_in_a_model(folder, model, name, data):
    published = folder / "published"
    if not published.exists():
        export_published(model, published)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    path = published / f"{name}.pth"
    with replaced(path, data.draw(damaged(path))):
        outcome_of(lambda: import_published(model, published), path.name)
    after = model.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)


@pytest.mark.parametrize("name", PICTURES)
@fuzzed(40)
@given(data=st.data())
def test_a_damaged_picture_is_refused_or_predicted_at_its_size(folder, model, name, data):
    image_format, options = PICTURES[name]
    content = encode(random_image(), image_format, **options)
    (folder / name).write_bytes(data.draw(damaged_bytes(content)))
    output = folder / "depths"
    for path in output.glob("*"):
        path.unlink()
    written = outcome_of(
        lambda: list(predict_files(model, [folder / name], output, depth_format="npy")), name
    )
    if isinstance(written, Md2distError):
        assert not list(output.glob("*"))
    else:
        image = read_image(folder / name)  # a JPEG has no checksum
        depth = np.load(written[0])
        assert depth.shape == (image.height, image.width)
        assert np.isfinite(depth).all()
