"""Faulty samples in intact shards."""

import io
import math

import numpy as np
import pytest
from helpers.damaged_shards import (
    KEYS,
    NAME,
    change_description,
    change_member,
    found,
    read_members,
    write_members,
)
from helpers.small_shards import write_small_shards
from PIL import Image

from md2dist.data.shards.sparse_depth import encode_sparse_depth


@pytest.fixture
def folder(tmp_path):
    """Three shards of 4, 4 and 2 samples."""
    return write_small_shards(tmp_path / "shards", ground_truth="velodyne")


def png(height, width):
    stream = io.BytesIO()
    Image.new("RGB", (width, height)).save(stream, "PNG")
    return stream.getvalue()


def test_an_image_that_cannot_be_decoded_is_found_though_every_checksum_is_right(folder):
    change_member(folder, KEYS[6], "+1.png", lambda content: content[:-2000])
    (fault,) = [fault for fault in found(folder) if "decode" in fault]
    assert fault.startswith(f"{NAME}, {KEYS[6]}: +1.png cannot be decoded")


def test_a_random_sample_of_each_shard_is_decoded(tmp_path):
    folder = write_small_shards(tmp_path, 16, samples_per_shard=16, frame_offsets=(), width=128)
    members = [
        (name, content[:-200] if name.endswith(".0.png") else content)
        for name, content in read_members(folder / "shard-000000.tar")
    ]
    write_members(folder / "shard-000000.tar", members)

    def undecodable(**options):
        return {fault for fault in found(folder, **options) if "decode" in fault}

    assert len(undecodable(decode="all")) == 16
    assert len(undecodable(decode="sample")) == 8
    assert undecodable(decode="sample") != undecodable(decode="sample", seed=1)
    assert undecodable(decode="none") == set()


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("s.png", lambda content: None, "lacks s.png"),
        ("json", lambda content: None, "lacks json"),
        ("json", lambda content: content[:-1], "its json is damaged: it is not JSON"),
        ("json", lambda content: b"[]", "its json is damaged: the content: expected an object"),
        ("json", lambda content: b"{}", "its json is damaged: format_version is missing"),
        ("velodyne.npz", lambda content: None, "lacks velodyne.npz"),
        ("velodyne.npz", lambda content: content[:-50], "velodyne.npz cannot be decoded"),
        ("0.png", lambda content: png(64, 64), "0.png is 64x64, its json says 32x64"),
        (
            "velodyne.npz",
            lambda content: encode_sparse_depth(np.ones((9, 8), np.float32)),
            "velodyne.npz is 9x8, its json says 64x128",
        ),
        (
            "velodyne.npz",
            lambda content: encode_sparse_depth(np.zeros((64, 128), np.float32)),
            "velodyne.npz has no depth",
        ),
        (
            "velodyne.npz",
            lambda content: encode_sparse_depth(np.full((64, 128), -1, np.float32)),
            "velodyne.npz has no depth, or depths that are not positive",
        ),
        (
            "velodyne.npz",
            lambda content: encode_sparse_depth(np.full((64, 128), 1e-5, np.float32)),
            "velodyne.npz has depths from 1e-05 to 1e-05 m, expected some from 0.1 to 200 m",
        ),
    ],
)
def test_a_member_that_is_missing_or_wrong_is_found(folder, name, change, words):
    change_member(folder, KEYS[5], name, change)
    assert [fault for fault in found(folder) if f"{NAME}, {KEYS[5]}: {words}" in fault]


def test_ground_truth_of_another_kind_than_in_the_recipe_is_found(tmp_path):
    folder = write_small_shards(tmp_path / "shards", ground_truth="annotated")
    assert not found(folder)
    members = [
        (name.replace("annotated.npz", "velodyne.npz"), content)
        for name, content in read_members(folder / NAME)
    ]
    write_members(folder / NAME, members)
    faults = found(folder)
    assert len([fault for fault in faults if "lacks annotated.npz" in fault]) == 4
    assert len([fault for fault in faults if "velodyne.npz is not in the recipe" in fault]) == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format_version": 9}, "has format version 9, expected 2"),
        ({"frame": 77}, "its json describes 2011_09_26/2011_09_26_drive_0001_sync 77 r"),
        ({"key": "another"}, "under the key another"),
        ({"width": 128}, "has size 32x128 in its json, the recipe says 32x64"),
        ({"native_width": 0}, "native_width is 0, expected greater than"),
        ({"baseline": 540.0}, "has a baseline of 540 m, expected 0.01 to 2.0 m"),
        ({"K": [[700, 0, 600], [0, 700, 170], [0, 0, 1]]}, "K has the focal length"),
        ({"K": [[40, 0, 60], [0, 60, 15], [0, 0, 1]]}, "K has the principal point"),
        ({"K": [[40, 0, 30], [5, 60, 15], [0, 0, 1]]}, "K is not of the form"),
        ({"K": [[40, 0, 30], [0, "x", 15], [0, 0, 1]]}, "K.1.1 is 'x', expected a valid number"),
        ({"K": [[40, 0], [0, 40]]}, "K.0: List should have at least 3 items"),
        ({"K": 3}, "K is 3, expected a valid array"),
        ({"K": [[40, 0, 30], [0, math.nan, 15], [0, 0, 1]]}, "K.1.1 is nan, expected a finite"),
        ({"side": "x"}, "side is 'x', expected 'l' or 'r'"),
        ({"baseline": None}, "baseline is None, expected a valid number"),
    ],
)
def test_impossible_metadata_is_found(folder, changes, words):
    change_description(folder, KEYS[5], **changes)
    assert [fault for fault in found(folder) if f"{NAME}, {KEYS[5]}: " in fault and words in fault]


def test_a_single_camera_has_no_baseline(tmp_path):
    folder = write_small_shards(tmp_path / "shards", use_stereo=False)
    change_description(folder, KEYS[5], baseline=0.0)
    assert found(folder) == []
