"""Random damage to shards, with and without a manifest that agrees with it."""

import numpy as np
import pytest
import torch
from fuzz.damage import damaged, damaged_bytes, damaged_json, fuzzed, outcome_of, replaced
from helpers.damaged_shards import KEYS, NAME, read_members, rewrite_manifest, write_members
from helpers.small_shards import write_small_shards
from hypothesis import given
from hypothesis import strategies as st

from md2dist.data import image_reader
from md2dist.data.inspection.data_card import describe_shards
from md2dist.data.inspection.verification import verify_shards
from md2dist.data.shards.dataset import ShardDataset
from md2dist.data.shards.image import decode_image
from md2dist.data.shards.manifest import MANIFEST_NAME
from md2dist.data.shards.sparse_depth import decode_sparse_depth
from md2dist.errors import Md2distError, ShardError
from md2dist.evaluation.depth import evaluate_depth

SAMPLE = slice(4, 8)  # the samples of the shard
NAMED = [NAME, "sample", "images cannot be evaluated"]


@pytest.fixture(scope="module", params=["png", "jpg", "webp"])
def folder(request, tmp_path_factory):
    return write_small_shards(
        tmp_path_factory.mktemp(request.param),
        10,
        frame_offsets=(),
        image_format=request.param,
        ground_truth="velodyne",
    )


def use(folder):
    """Verifies, reads and evaluates shards; what passes verification can be used."""
    faults = [str(fault) for fault in verify_shards(folder).faults]
    assert [fault for fault in faults if not fault.isprintable()] == []
    dataset = ShardDataset(folder)
    results = [outcome_of(lambda i=i: dataset[i], *NAMED) for i in range(10)[SAMPLE]]
    results.append(outcome_of(lambda: describe_shards(folder), *NAMED))
    results.append(
        outcome_of(
            lambda: evaluate_depth(
                lambda frames: torch.full((len(frames), 1, 8, 16), 0.2),
                dataset,
                protocol="eigen",
                scaling=5.4,
            ),
            *NAMED,
        )
    )
    errors = [str(result) for result in results if isinstance(result, Exception)]
    assert faults or not errors
    return faults, results[:4]


@fuzzed(12)
@given(data=st.data())
def test_a_damaged_shard_is_found_and_its_samples_are_right_or_refused(folder, data):
    right = [ShardDataset(folder).raw(i) for i in range(10)[SAMPLE]]
    with replaced(folder / NAME, data.draw(damaged(folder / NAME))):
        faults, _ = use(folder)
        assert faults
        dataset = ShardDataset(folder)
        for i, members in zip(range(10)[SAMPLE], right, strict=True):
            read = outcome_of(lambda i=i: dataset.raw(i), NAME)
            assert isinstance(read, ShardError) or read == members


@fuzzed(20)
@given(data=st.data())
def test_a_member_that_the_manifest_vouches_for_is_refused_or_usable(folder, data):
    manifest, shard = folder / MANIFEST_NAME, folder / NAME
    members = read_members(shard)
    place = data.draw(st.integers(0, len(members) - 1))
    name, content = members[place]
    strategy = damaged_bytes(content)
    if name.endswith(".json"):
        strategy = damaged_json(content) | damaged_json(content) | strategy
    members[place] = (name, data.draw(strategy))
    with replaced(manifest, manifest.read_bytes()), replaced(shard, shard.read_bytes()):
        write_members(shard, members)
        use(folder)


@fuzzed(12)
@given(data=st.data())
def test_headers_that_the_manifest_vouches_for_are_refused_or_usable(folder, data):
    manifest, shard = folder / MANIFEST_NAME, folder / NAME
    content = bytearray(shard.read_bytes())
    header = data.draw(st.sampled_from(ShardDataset(folder).manifest.shards[1].offsets.tolist()))
    with replaced(manifest, manifest.read_bytes()), replaced(shard, bytes(content)):
        part = bytes(content[header : header + 512])
        changed = data.draw(damaged_bytes(part))[:512].ljust(512, b"\0")
        content[header : header + 512] = changed
        shard.write_bytes(content)
        rewrite_manifest(shard)
        use(folder)


@fuzzed(60)
@given(data=st.data())
def test_a_damaged_image_of_a_shard_is_refused_or_has_its_size(folder, data):
    name, content = read_members(folder / NAME)[0]
    assert KEYS[4] in name
    for damage in (data.draw(damaged_bytes(content)), data.draw(damaged_bytes(content))):
        image = outcome_of(lambda damage=damage: decode_image(damage, (32, 64)), "image")
        assert isinstance(image, Md2distError) or image.shape == (32, 64, 3)


@fuzzed(60)
@given(data=st.data())
def test_a_damaged_image_has_the_values_that_pillow_gives_it_or_its_error(folder, data):
    content = data.draw(damaged_bytes(read_members(folder / NAME)[0][1]))
    found = outcome_of(lambda: decode_image(content, (32, 64)), "image")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_reader, "plain_size", lambda content: None)
        expected = outcome_of(lambda: decode_image(content, (32, 64)), "image")
    assert type(found) is type(expected)
    if isinstance(found, Md2distError):  # the size is checked before anything else
        assert str(found) == str(expected) or "pixels; expected 32x64" in str(found)
    else:
        np.testing.assert_array_equal(found, expected)


@fuzzed(40)
@given(data=st.data())
def test_damaged_sparse_depth_is_refused_or_has_its_size(folder, data):
    content = dict(read_members(folder / NAME))[f"{KEYS[4]}.velodyne.npz"]
    depth = outcome_of(
        lambda: decode_sparse_depth(data.draw(damaged_bytes(content)), (64, 128)), "depth"
    )
    assert isinstance(depth, Md2distError) or depth.shape == (64, 128)
