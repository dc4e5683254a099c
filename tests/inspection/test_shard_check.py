"""Damage to the bytes and the structure of a shard."""

import tarfile

import numpy as np
import pytest
from helpers.damaged_shards import (
    KEYS,
    NAME,
    change_description,
    found,
    read_members,
    rewrite_manifest,
    write_members,
)
from helpers.small_shards import write_small_shards

from md2dist.data.inspection.verification import verify_shards
from md2dist.data.shards.manifest import read_manifest


@pytest.fixture
def folder(tmp_path):
    """Three shards of 4, 4 and 2 samples."""
    return write_small_shards(tmp_path / "shards", ground_truth="velodyne")


def test_one_flipped_byte_anywhere_is_found(folder):
    path = folder / NAME
    whole = path.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole), 60).tolist():
        flipped = bytearray(whole)
        flipped[place] ^= 1
        path.write_bytes(flipped)
        faults = found(folder, decode="none")
        assert f"{NAME}: its sha256 differs from index.json" in faults


def test_one_flipped_byte_in_an_image_is_traced_to_its_sample(folder):
    path = folder / NAME
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        content[tar.getmember(f"{KEYS[6]}.s.png").offset_data + 900] ^= 1
    path.write_bytes(content)
    # Frame 6 of the right camera: +1 of sample 5, s of sample 6, -1 of sample 7.
    assert found(folder, decode="none") == [
        f"{NAME}: its sha256 differs from index.json",
        f"{NAME}, {KEYS[6]}: shows another image of 2011_09_26/2011_09_26_drive_0001_sync 6 r "
        f"than {KEYS[5]}",
    ]


def test_a_cut_shard_is_one_fault_per_consequence(folder):
    path = folder / NAME
    offsets = read_manifest(folder).shards[1].offsets.tolist()
    path.write_bytes(path.read_bytes()[: offsets[1] + 3000])
    size, cut, lost = found(folder)
    assert f"{NAME}: has {offsets[1] + 3000} bytes, index.json says" in size
    assert "is truncated" in cut
    assert "2 of 4 samples are after the end of the file" in lost


def test_a_shard_cut_between_members_is_found(folder):
    path = folder / NAME
    end = int(read_manifest(folder).shards[1].offsets[-1])
    path.write_bytes(path.read_bytes()[:end])
    rewrite_manifest(path)
    (fault,) = found(folder)
    assert "does not end with two blocks of zeros" in fault


def test_data_after_the_end_is_found(folder):
    path = folder / NAME
    path.write_bytes(path.read_bytes() + b"more" * 128)
    rewrite_manifest(path)
    (fault,) = found(folder)
    assert "there is data after the end of the tar" in fault


def test_padding_that_is_not_zero_is_found(folder):
    path = folder / NAME
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        info = tar.getmember(f"{KEYS[5]}.json")
    content[info.offset_data + info.size] = 1
    path.write_bytes(content)
    rewrite_manifest(path)
    (fault,) = found(folder)
    assert fault.endswith(
        f"byte {info.offset_data + info.size}: the padding after a member is not zero"
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sample.link", tarfile.SYMTYPE), ("folder", tarfile.DIRTYPE), ("README", tarfile.REGTYPE)],
)
def test_a_file_that_is_not_a_member_of_a_sample_is_found(folder, name, kind):
    path = folder / NAME
    end = int(read_manifest(folder).shards[1].offsets[-1])
    info = tarfile.TarInfo(name)
    info.type = kind
    content = path.read_bytes()
    path.write_bytes(content[:end] + info.tobuf() + content[end:])
    rewrite_manifest(path)
    (fault,) = found(folder)
    assert f"byte {end}: {name!r} is not a regular file named KEY.MEMBER" in fault


def test_a_broken_header_does_not_hide_what_follows(folder):
    change_description(folder, KEYS[6], baseline=9.54)
    path = folder / NAME
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)
    rewrite_manifest(path)
    header, baseline = found(folder)
    assert header.startswith(f"{NAME}: byte 0: no valid tar header")
    assert baseline.startswith(f"{NAME}, {KEYS[6]}: has a baseline of 9.54 m")
    assert verify_shards(folder).num_found == 9


def test_a_broken_header_inside_a_sample_does_not_hide_the_next_one(folder):
    path = folder / NAME
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        place = tar.getmember(f"{KEYS[4]}.0.png").offset
    content[place + 10] ^= 1
    path.write_bytes(content)
    rewrite_manifest(path)
    (header,) = found(folder)
    assert header.startswith(f"{NAME}: byte {place}: no valid tar header")
    assert verify_shards(folder).num_found == 9


def test_members_of_a_sample_in_two_places_are_found(folder):
    path = folder / NAME
    members = read_members(path)
    names = [name for name, _ in members]
    a, b = names.index(f"{KEYS[4]}.s.png"), names.index(f"{KEYS[5]}.0.png")
    members[a], members[b] = members[b], members[a]
    write_members(path, members)
    faults = found(folder)
    for key in KEYS[4:6]:
        assert any(f"{key}: its members are not contiguous" in fault for fault in faults)


def test_the_order_of_members_within_a_sample_is_free(folder):
    members = read_members(folder / NAME)
    members[0], members[3] = members[3], members[0]
    write_members(folder / NAME, members)
    assert found(folder) == []


def test_a_sample_that_the_manifest_does_not_count_is_found(folder):
    entry = read_manifest(folder).shards[1]
    rewrite_manifest(folder / NAME, count=3, offsets=entry.offsets[:-1])
    (fault,) = found(folder)
    assert f"byte {entry.offsets[-1]}: a sample starts or the last one ends" in fault


def test_wrong_offsets_are_all_found(folder):
    entry = read_manifest(folder).shards[1]
    offsets = entry.offsets + np.array([0, 512, 0, 1024, 0])
    rewrite_manifest(folder / NAME, offsets=offsets)
    faults = found(folder)
    for wrong in offsets[[1, 3]]:
        assert (
            f"{NAME}: byte {wrong}: index.json lists it, but no sample starts or ends there"
            in " ".join(faults)
        )
    assert len(faults) == 4  # including two true starts that are not listed


def test_wrong_checksums_of_samples_are_found(folder):
    entry = read_manifest(folder).shards[1]
    rewrite_manifest(folder / NAME, crc32=entry.crc32[::-1])
    assert found(folder) == [f"{NAME}: the checksums of its samples differ from index.json"]


def test_a_duplicate_member_is_found(folder):
    members = read_members(folder / NAME)
    write_members(folder / NAME, [members[0], *members])
    twice = members[0][0].partition(".")[2]
    assert found(folder) == [f"{NAME}, {KEYS[4]}: holds {twice} 2 times"]
