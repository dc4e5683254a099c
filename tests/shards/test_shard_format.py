import dataclasses
import io
import json
import re
import tarfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from webdataset.writer import TarWriter

from md2dist.config import load_config
from md2dist.data.shards.compatibility import check_recipe, check_size
from md2dist.data.shards.entry import ShardEntry
from md2dist.data.shards.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    Manifest,
    SkippedDrive,
    read_manifest,
    write_manifest,
)
from md2dist.data.shards.recipe import Recipe, view_names
from md2dist.data.shards.tar_sample import sample_members
from md2dist.errors import ShardError

RECIPE = Recipe("eigen_zhou/train", 192, 640, (-1, 1), use_stereo=True)


def make_manifest(num_shards: int = 3, per_shard: int = 5) -> Manifest:
    shards = tuple(
        ShardEntry(
            name=f"shard-{i:06d}.tar",
            num_bytes=9000,
            sha256="ab" * 32,
            count=per_shard,
            offsets=1024 * np.arange(per_shard + 1),
            crc32=np.array([2**32 - 1, 0, 1, 2, 3][:per_shard], np.uint32),
        )
        for i in range(num_shards)
    )
    return Manifest(RECIPE, shards, (SkippedDrive("a", "no image", 7),), {"numpy": "2"}, "cd" * 32)


def tar_section(key: str, members: dict[str, bytes]) -> tuple[bytes, bytes]:
    """Returns the section of one sample as WebDataset writes it, and the whole tar."""
    stream = io.BytesIO()
    with TarWriter(stream, encoder=False, mtime=0, compress=False) as writer:
        writer.write({"__key__": key, **members})
        end = writer.tarstream.offset
    return stream.getvalue()[:end], stream.getvalue()


def test_a_manifest_survives_being_written(tmp_path):
    manifest = make_manifest()
    write_manifest(manifest, tmp_path)
    restored = read_manifest(str(tmp_path))
    assert dataclasses.replace(restored, digest="") == manifest
    assert restored.shards[0].offsets.tolist() == manifest.shards[0].offsets.tolist()
    assert restored.shards[0].offsets.dtype == np.int64
    assert restored.shards[0].crc32.tolist() == manifest.shards[0].crc32.tolist()
    assert restored.shard_sizes == [5, 5, 5]
    assert restored.num_samples == 15


def test_the_digest_changes_with_the_manifest(tmp_path):
    digests = []
    for num_shards in (1, 1, 2):
        write_manifest(make_manifest(num_shards), tmp_path)
        digests.append(read_manifest(tmp_path).digest)
    assert digests[0] == digests[1] != digests[2]


def test_a_manifest_that_fails_to_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    write_manifest(make_manifest(1), tmp_path)

    def fail(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_manifest(make_manifest(2), tmp_path)
    assert read_manifest(tmp_path).shard_sizes == [5]


def test_a_folder_without_shards_names_the_command_that_makes_them(tmp_path):
    with pytest.raises(ShardError, match=r"index\.json.*md2dist pack --kitti-root"):
        read_manifest(tmp_path / "absent")


@pytest.mark.parametrize("version", [1, 99])
def test_another_format_version_is_refused(tmp_path, version):
    write_manifest(make_manifest(), tmp_path)
    path = tmp_path / MANIFEST_NAME
    stored = json.loads(path.read_text()) | {"format_version": version}
    del stored["shards"][0]["crc32"]  # as in version 1
    path.write_text(json.dumps(stored))
    words = rf"format version {version}, expected {FORMAT_VERSION}: .*again"
    with pytest.raises(ShardError, match=words):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace('"height"', '"hight"'),
        lambda text: text.replace('"recipe"', '"receipt"'),
        lambda text: text.replace('"count":5', '"count":6'),
        lambda text: text.replace("[0,1024", '["x",1024'),
        lambda text: text.replace('"crc32":"', '"crc32":"00000000'),
        lambda text: text.replace('"crc32":"', '"crc32":"x'),
        lambda text: text.replace("shard-000001", "../shard"),
        lambda text: text.replace("1024", str(2**70)),
    ],
)
def test_a_damaged_manifest_is_an_error_with_a_remedy(tmp_path, damage):
    write_manifest(make_manifest(), tmp_path)
    path = tmp_path / MANIFEST_NAME
    path.write_text(damage(path.read_text()))
    with pytest.raises(ShardError, match=r"index\.json is damaged .*md2dist pack"):
        read_manifest(tmp_path)


def test_the_manifest_is_plain_json_with_a_version(tmp_path):
    write_manifest(make_manifest(), tmp_path)
    stored = json.loads((tmp_path / MANIFEST_NAME).read_text())
    assert stored["format_version"] == FORMAT_VERSION
    assert stored["recipe"]["frame_offsets"] == [-1, 1]
    assert stored["shards"][0]["offsets"] == [0, 1024, 2048, 3072, 4096, 5120]
    assert "digest" not in stored


@pytest.mark.parametrize(
    ("frame_offsets", "use_stereo"),
    [((-1, 1), True), ((-1, 1), False), ((1,), True), ((), True), ([], False)],
)
def test_a_run_may_need_less_than_is_packed(frame_offsets, use_stereo):
    asked = {"height": 192, "width": 640, "frame_offsets": frame_offsets, "use_stereo": use_stereo}
    check_recipe(make_manifest(), "shards", **asked)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (
            {"height": 320, "width": 1024},
            ["192x640", "320x1024", "data.height=192", "--height 320"],
        ),
        ({"height": 640, "width": 192}, ["192x640", "640x192"]),
        ({"frame_offsets": (-2, 1)}, ["[-1, 1]", "[-2, 1]", "--frame-offsets -2 -1 1"]),
        ({"use_stereo": True}, ["stereo", "--stereo", "data.use_stereo=false"]),
    ],
)
def test_a_run_that_needs_more_is_refused_with_both_and_the_remedy(asked, words):
    manifest = dataclasses.replace(
        make_manifest(), recipe=dataclasses.replace(RECIPE, use_stereo=False)
    )
    fitting = {"height": 192, "width": 640, "frame_offsets": (-1, 1), "use_stereo": False}
    check_recipe(manifest, "my_shards", **fitting)
    with pytest.raises(ShardError) as caught:
        check_recipe(manifest, "my_shards", **(fitting | asked))
    assert all(word in str(caught.value) for word in ["my_shards", *words])


def test_images_for_a_trained_model_are_refused_without_settings_which_it_does_not_take():
    check_size(make_manifest(), "my_shards", 192, 640)
    words = "^my_shards is packed at 192x640, but 320x1024 is needed: pack again with --height 320"
    with pytest.raises(ShardError, match=words):
        check_size(make_manifest(), "my_shards", 320, 1024)


@pytest.mark.parametrize(
    ("packed", "asked", "settings"),
    [
        (((-1, 1), False), ((), True), "data.frame_offsets=[-1,1] data.use_stereo=false"),
        (((-1, 1), False), ((-2, 1), True), "data.frame_offsets=[-1,1] data.use_stereo=false"),
        (((-1, 1), False), ((-1,), True), "data.use_stereo=false"),
        (((), True), ((-1, 1), False), "data.frame_offsets=[] data.use_stereo=true"),
        (((), True), ((-1, 1), True), "data.frame_offsets=[]"),
        (((1,), True), ((-1, 1), False), "data.frame_offsets=[1]"),
    ],
)
def test_the_settings_that_are_offered_fit_the_shards_and_leave_a_source(packed, asked, settings):
    recipe = dataclasses.replace(RECIPE, frame_offsets=packed[0], use_stereo=packed[1])
    manifest = dataclasses.replace(make_manifest(), recipe=recipe)
    with pytest.raises(ShardError) as caught:
        check_recipe(manifest, "my_shards", frame_offsets=asked[0], use_stereo=asked[1])
    offered = re.search(r": set (.*), or pack again", str(caught.value))[1]
    assert offered == settings
    was_asked = [f"data.frame_offsets={list(asked[0])}", f"data.use_stereo={asked[1]}"]
    data = load_config(overrides=[*was_asked, *offered.split()]).data
    check_recipe(
        manifest, "my_shards", frame_offsets=data.frame_offsets, use_stereo=data.use_stereo
    )


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        (((-1, 1), False), "--frame-offsets -1 1 --no-stereo"),
        (((), True), "--frame-offsets --stereo"),
        (((-1, 1), True), "--frame-offsets -1 1 --stereo"),
    ],
)
def test_shards_for_evaluation_are_refused_for_training(asked, options):
    recipe = dataclasses.replace(RECIPE, frame_offsets=(), use_stereo=False)
    manifest = dataclasses.replace(make_manifest(), recipe=recipe)
    words = rf"my_shards holds targets without sources.*for evaluation.*width 640 {options}`$"
    with pytest.raises(ShardError, match=words) as caught:
        check_recipe(manifest, "my_shards", frame_offsets=asked[0], use_stereo=asked[1])
    assert "data." not in str(caught.value)


def test_views_are_target_then_ascending_offsets_then_stereo():
    assert view_names((2, -1, 1), use_stereo=True) == ["0", "-1", "+1", "+2", "s"]
    assert view_names((), use_stereo=False) == ["0"]


names = st.sampled_from(["0.png", "-1.png", "+1.png", "s.png", "json", "velodyne.npz"])


@settings(max_examples=60)
@given(members=st.dictionaries(names, st.binary(max_size=1600), min_size=1))
def test_a_section_is_read_as_python_reads_the_tar(members):
    section, tar = tar_section("drive_l_0000000024", members)
    restored = sample_members(section)
    assert restored.pop("__key__") == "drive_l_0000000024"
    assert {name: bytes(content) for name, content in restored.items()} == members
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        expected = {m.name.partition(".")[2]: archive.extractfile(m).read() for m in archive}
    assert restored == expected


def test_members_are_views_of_the_section_not_copies():
    section = bytearray(tar_section("k", {"json": b"{}"})[0])
    content = sample_members(memoryview(section))["json"]
    section[512:514] = b"[]"
    assert bytes(content) == b"[]"


def test_a_field_of_a_header_ends_at_its_first_zero_byte_as_for_tarfile():
    section = bytearray(tar_section("k", {"json": b"{}"})[0])
    section[99:100], section[124:136] = b"x", b"0000002\x000000"
    section[148:156] = b" " * 8
    section[148:155] = f"{sum(section[:512]):06o}\0".encode()
    assert {n: bytes(c) for n, c in sample_members(section).items() if n[0] != "_"} == {
        "json": b"{}"
    }
    info = tarfile.TarInfo.frombuf(bytes(section[:512]), "ascii", "strict")
    assert (info.name, info.size) == ("k.json", 2)


@pytest.mark.parametrize(
    "damage",
    [
        lambda section: section[:-512],  # the last payload is cut off
        lambda section: section[512:],  # a payload where a header should be
        lambda section: bytes(len(section)),  # a hole in the file
        lambda section: section[:300],  # not even a header
        lambda section: section[:124] + b"9" * 11 + section[135:],  # no octal number
        lambda section: section + tar_section("other", {"json": b"{}"})[0],  # two samples
    ],
)
def test_a_damaged_section_is_refused(damage):
    section, _ = tar_section("k", {"0.png": bytes(range(256)) * 5, "json": b"{}"})
    with pytest.raises(ShardError, match="tar member"):
        sample_members(damage(section))
