"""Every kind of fault, injected into small shards, is found; healthy shards have none."""

import io
import json
import subprocess
import sys
import tarfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_shards import write_small_shards
from webdataset import TarWriter

from md2dist.data.shard_format import read_manifest, write_manifest
from md2dist.data.velodyne import encode_sparse_depth
from md2dist.data.verification import verify_shards

SCRIPT = Path(__file__).parent.parent / "shard_tools" / "verify_shards.py"
NAME = "shard-000001.tar"
KEYS = [f"2011_09_26_drive_0001_sync_{'lr'[i % 2]}_{i:010d}" for i in range(10)]


@pytest.fixture
def folder(tmp_path):
    """Three shards of 4, 4 and 2 samples."""
    return write_small_shards(tmp_path / "shards", ground_truth="velodyne")


def found(folder, **options):
    return [str(fault) for fault in verify_shards(folder, **options).faults]


def read_members(path):
    with tarfile.open(path) as tar:
        return [(info.name, tar.extractfile(info).read()) for info in tar]


def write_members(path, members):
    """Writes a tar, and an entry of the manifest that is true of it."""
    offsets, key = [], None
    with TarWriter(str(path), mtime=0, encoder=False) as tar:
        for name, content in members:
            if name.partition(".")[0] != key:
                key = name.partition(".")[0]
                offsets.append(tar.tarstream.offset)
            tar.write({"__key__": key, name.partition(".")[2]: content})
        offsets.append(tar.tarstream.offset)
    mend_manifest(path, offsets=np.array(offsets), count=len(offsets) - 1)


def mend_manifest(path, **changes):
    """Makes the manifest agree with the bytes of a shard, but for what is said to change."""
    content = path.read_bytes()
    changes = {"num_bytes": len(content), "sha256": sha256(content).hexdigest(), **changes}
    manifest = read_manifest(path.parent)
    shards = [replace(s, **changes) if s.name == path.name else s for s in manifest.shards]
    write_manifest(replace(manifest, shards=tuple(shards)), path.parent)


def change_member(folder, key, name, change):
    """Rewrites one member; the tar and the manifest stay sound. With None it goes."""
    path = folder / NAME
    members = []
    for full_name, content in read_members(path):
        if full_name == f"{key}.{name}":
            content = change(content)
        if content is not None:
            members.append((full_name, content))
    write_members(path, members)


def change_description(folder, sample_key, **changes):
    def change(content):
        return json.dumps({**json.loads(content), **changes}).encode()

    change_member(folder, sample_key, "json", change)


def png(height, width):
    stream = io.BytesIO()
    Image.new("RGB", (width, height)).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("decode", ["all", "sample", "none"])
def test_healthy_shards_have_no_fault(folder, decode):
    verdict = verify_shards(folder, decode=decode)
    assert verdict.faults == []
    assert verdict.num_found == 10


@pytest.mark.parametrize("image_format", ["jpg", "webp"])
def test_other_image_formats_and_few_views_are_healthy_too(tmp_path, image_format):
    write_small_shards(tmp_path, image_format=image_format, frame_offsets=(), use_stereo=False)
    assert found(tmp_path) == []


def test_one_flipped_byte_anywhere_is_found(folder):
    path = folder / NAME
    whole = path.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole), 60).tolist():
        flipped = bytearray(whole)
        flipped[place] ^= 1
        path.write_bytes(flipped)
        faults = found(folder, decode="none")
        assert f"{NAME}: has another sha256 than index.json says" in faults


def test_one_flipped_byte_in_an_image_is_traced_to_its_sample(folder):
    path = folder / NAME
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        content[tar.getmember(f"{KEYS[6]}.s.png").offset_data + 900] ^= 1
    path.write_bytes(content)
    # Frame 6 of the right camera: +1 of sample 5, s of sample 6, -1 of sample 7.
    assert found(folder, decode="none") == [
        f"{NAME}: has another sha256 than index.json says",
        f"{NAME}, {KEYS[6]}: shows another image of 2011_09_26/2011_09_26_drive_0001_sync 6 r "
        f"than {KEYS[5]}",
    ]


def test_a_cut_shard_is_one_fault_per_consequence(folder):
    path = folder / NAME
    offsets = read_manifest(folder).shards[1].offsets.tolist()
    path.write_bytes(path.read_bytes()[: offsets[1] + 3000])
    size, cut, lost = found(folder)
    assert f"{NAME}: has {offsets[1] + 3000} bytes, index.json says" in size
    assert "is cut short" in cut
    assert "2 of 4 samples lie behind the end of the file" in lost


def test_a_shard_cut_between_members_is_found(folder):
    path = folder / NAME
    end = int(read_manifest(folder).shards[1].offsets[-1])
    path.write_bytes(path.read_bytes()[:end])
    mend_manifest(path)
    (fault,) = found(folder)
    assert "does not end with two blocks of zeros" in fault


def test_something_behind_the_end_is_found(folder):
    path = folder / NAME
    path.write_bytes(path.read_bytes() + b"more" * 128)
    mend_manifest(path)
    (fault,) = found(folder)
    assert "something follows the tar's end" in fault


def test_a_broken_header_does_not_hide_what_follows(folder):
    change_description(folder, KEYS[6], baseline=9.54)
    path = folder / NAME
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)
    mend_manifest(path)
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
    mend_manifest(path)
    (header,) = found(folder)
    assert header.startswith(f"{NAME}: byte {place}: no valid tar header")
    assert verify_shards(folder).num_found == 9


def test_members_of_a_sample_that_lie_in_two_places_are_found(folder):
    path = folder / NAME
    members = read_members(path)
    names = [name for name, _ in members]
    a, b = names.index(f"{KEYS[4]}.s.png"), names.index(f"{KEYS[5]}.0.png")
    members[a], members[b] = members[b], members[a]
    write_members(path, members)
    faults = found(folder)
    for key in KEYS[4:6]:
        assert any(f"{key}: its members do not lie together" in fault for fault in faults)


def test_the_order_of_members_within_a_sample_is_free(folder):
    members = read_members(folder / NAME)
    members[0], members[3] = members[3], members[0]
    write_members(folder / NAME, members)
    assert found(folder) == []


def test_a_sample_that_the_manifest_does_not_count_is_found(folder):
    entry = read_manifest(folder).shards[1]
    mend_manifest(folder / NAME, count=3, offsets=entry.offsets[:-1])
    (fault,) = found(folder)
    assert f"byte {entry.offsets[-1]}: a sample starts or the last one ends" in fault


def test_wrong_offsets_are_all_found(folder):
    entry = read_manifest(folder).shards[1]
    offsets = entry.offsets + np.array([0, 512, 0, 1024, 0])
    mend_manifest(folder / NAME, offsets=offsets)
    faults = found(folder)
    for wrong in offsets[[1, 3]]:
        assert f"{NAME}: byte {wrong}: neither start nor end of a sample" in " ".join(faults)
    assert len(faults) == 4  # and two places where samples do start


def test_a_missing_shard_and_a_forgotten_one_are_found(folder):
    (folder / NAME).rename(folder / "shard-000009.tar")
    missing, stranger = found(folder)
    assert missing == f"{NAME}: cannot be read (No such file or directory)"
    assert stranger.startswith("shard-000009.tar: is not in index.json")


def test_an_image_that_does_not_decode_is_found_though_every_sum_is_right(folder):
    change_member(folder, KEYS[6], "+1.png", lambda content: content[:-2000])
    (fault,) = [fault for fault in found(folder) if "decode" in fault]
    assert fault.startswith(f"{NAME}, {KEYS[6]}: +1.png does not decode")


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
        ("json", lambda content: content[:-1], "its json does not parse"),
        ("json", lambda content: b"[]", "its json is not an object"),
        ("json", lambda content: b"{}", "its json lacks, or has in another form: key"),
        ("velodyne.npz", lambda content: None, "lacks velodyne.npz"),
        ("velodyne.npz", lambda content: content[:-50], "velodyne.npz does not decode"),
        ("0.png", lambda content: png(64, 64), "0.png is 64x64, its json says 32x64"),
        (
            "velodyne.npz",
            lambda content: encode_sparse_depth(np.ones((9, 8), np.float32)),
            "velodyne.npz is 9x8, the camera 64x128",
        ),
        (
            "velodyne.npz",
            lambda content: encode_sparse_depth(np.zeros((64, 128), np.float32)),
            "velodyne.npz holds no depth",
        ),
        (
            "velodyne.npz",
            lambda content: encode_sparse_depth(np.full((64, 128), -1, np.float32)),
            "velodyne.npz holds no depth, or depths that are not positive",
        ),
    ],
)
def test_a_member_that_is_missing_or_wrong_is_found(folder, name, change, words):
    change_member(folder, KEYS[5], name, change)
    assert [fault for fault in found(folder) if f"{NAME}, {KEYS[5]}: {words}" in fault]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format_version": 9}, "has format version 9, expected 1"),
        ({"frame": 77}, "its json describes 2011_09_26/2011_09_26_drive_0001_sync 77 r"),
        ({"key": "another"}, "under the key another"),
        ({"width": 128}, "says it is 32x128, the recipe says 32x64"),
        ({"native_width": 0}, "has an image size that is not positive"),
        ({"baseline": 540.0}, "has a baseline of 540 m, expected 0.1 to 2.0 m"),
        ({"K": [[700, 0, 600], [0, 700, 170], [0, 0, 1]]}, "K has the focal length"),
        ({"K": [[40, 0, 60], [0, 60, 15], [0, 0, 1]]}, "K has the principal point"),
        ({"K": [[40, 0, 30], [5, 60, 15], [0, 0, 1]]}, "K has not the form"),
        ({"K": [[40, 0, 30], [0, "x", 15], [0, 0, 1]]}, "in another form: K"),
        ({"K": [[40, 0], [0, 40]]}, "in another form: K"),
        ({"K": 3}, "in another form: K"),
        ({"K": [[40, 0, 30], [0, float("nan"), 15], [0, 0, 1]]}, "K holds what is no number"),
        ({"side": "x"}, "in another form: side"),
        ({"baseline": None}, "in another form: baseline"),
    ],
)
def test_a_description_that_cannot_be_true_is_found(folder, changes, words):
    change_description(folder, KEYS[5], **changes)
    assert [fault for fault in found(folder) if f"{NAME}, {KEYS[5]}: " in fault and words in fault]


def test_a_neighbour_taken_from_another_frame_is_found(folder):
    members = dict(read_members(folder / NAME))
    change_member(folder, KEYS[5], "+1.png", lambda content: members[f"{KEYS[5]}.-1.png"])
    (fault,) = found(folder)
    image = "2011_09_26/2011_09_26_drive_0001_sync 6 r"
    assert fault.startswith(f"{NAME}, {KEYS[5]}: shows another image of {image} than ")


def test_a_sample_packed_twice_is_found(folder):
    first = read_members(folder / "shard-000000.tar")
    write_members(folder / NAME, [*read_members(folder / NAME), *first[:6]])
    assert found(folder) == [f"{NAME}, {KEYS[0]}: is also in shard-000000.tar"]


def test_a_member_that_is_there_twice_is_found(folder):
    members = read_members(folder / NAME)
    write_members(folder / NAME, [members[0], *members])
    twice = members[0][0].partition(".")[2]
    assert found(folder) == [f"{NAME}, {KEYS[4]}: holds {twice} 2 times"]


def test_frames_that_evaluation_shares_with_training_in_any_view_are_found(folder, tmp_path):
    one_view = {"frame_offsets": (), "use_stereo": False}
    evaluation = write_small_shards(tmp_path / "evaluation", 13, **one_view)
    (leak,) = found(folder, against=evaluation)
    # Frames 0 to 9 are targets of training, frame 10 is the neighbour of the last.
    assert leak == (
        "2011_09_26/2011_09_26_drive_0001_sync: the evaluation shards show 11 of its frames: 0-10"
    )


def test_other_frames_of_a_drive_are_no_leak(folder, tmp_path):
    write_small_shards(tmp_path, 13, samples_per_shard=1, frame_offsets=(), use_stereo=False)
    manifest = read_manifest(tmp_path)
    for entry in manifest.shards[:11]:
        (tmp_path / entry.name).unlink()
    write_manifest(replace(manifest, shards=manifest.shards[11:]), tmp_path)
    assert found(folder, against=tmp_path) == []


def test_gaps_are_told_but_are_no_fault(folder):
    members = [m for m in read_members(folder / NAME) if not m[0].startswith((KEYS[5], KEYS[6]))]
    write_members(folder / NAME, members)
    verdict = verify_shards(folder)
    assert verdict.faults == []
    assert verdict.gaps == {"2011_09_26/2011_09_26_drive_0001_sync": [2]}


def test_every_fault_of_a_folder_is_listed_not_only_the_first(folder):
    change_description(folder, KEYS[5], baseline=99.0)
    change_member(folder, KEYS[7], "0.png", lambda content: content[:-3000])
    (folder / "shard-000002.tar").unlink()
    (folder / "shard-000000.tar").write_bytes(b"")
    text = "\n".join(found(folder))
    for words in (
        "shard-000000.tar: has 0 bytes",
        "baseline of 99 m",
        "0.png does not decode",
        "shard-000002.tar: cannot be read",
    ):
        assert words in text


def verify(*options):
    command = [sys.executable, str(SCRIPT), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_exit_code_0_means_no_fault(folder):
    done = verify(folder)
    assert done.returncode == 0, done.stderr
    assert "10 of 10 samples found in 3 shards, 0 faults" in done.stdout


@pytest.mark.slow
def test_exit_code_1_comes_with_a_list_of_faults(folder):
    (folder / "shard-000002.tar").unlink()
    change_description(folder, KEYS[5], baseline=99.0)
    done = verify(folder, "--decode", "sample", "--processes", 2)
    assert done.returncode == 1
    baseline, missing, summary, *_ = done.stdout.splitlines()
    assert "baseline of 99 m" in baseline
    assert missing.startswith("shard-000002.tar: cannot be read")
    assert summary.endswith("8 of 10 samples found in 3 shards, 2 faults")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_exit_code_2_means_that_there_is_no_usable_manifest(folder):
    manifest = json.loads((folder / "index.json").read_text())
    manifest["shards"][1]["count"] += 1
    (folder / "index.json").write_text(json.dumps(manifest))
    done = verify(folder)
    assert done.returncode == 2
    assert "error: " in done.stderr
    assert "counts 5 samples" in done.stderr
    assert "Traceback" not in done.stderr
