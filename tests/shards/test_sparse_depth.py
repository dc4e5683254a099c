import io
import zipfile

import numpy as np
import pytest
from helpers.small_shards import write_small_shards
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from md2dist.data.shards.dataset import ShardDataset
from md2dist.data.shards.sparse_depth import decode_sparse_depth, encode_sparse_depth
from md2dist.errors import ShardError

shapes = st.tuples(st.integers(1, 9), st.integers(1, 9))
any_depth = arrays(
    np.float32, shapes, elements=st.just(0.0) | st.floats(-300, 300, width=32, allow_nan=False)
)
counts = arrays(np.uint16, shapes, elements=st.just(0) | st.integers(0, 2**16 - 1))


def stored_in(content):
    with np.load(io.BytesIO(content)) as stored:
        return dict(stored)


@settings(max_examples=50)
@given(depth=any_depth | counts.map(lambda c: c / np.float32(256)))
def test_a_sparse_map_survives_its_packing_bit_for_bit(depth):
    content = encode_sparse_depth(depth)
    restored = decode_sparse_depth(memoryview(content))
    np.testing.assert_array_equal(restored, depth)
    assert restored.dtype == np.float32
    assert encode_sparse_depth(depth) == content


@pytest.mark.parametrize("value", [1e-3, -1.0, 256.0, 1e38, np.inf, np.nan])
def test_what_two_bytes_cannot_hold_stays_as_it_is(value):
    depth = np.array([[0, 2, value]], np.float32)
    np.testing.assert_array_equal(decode_sparse_depth(encode_sparse_depth(depth)), depth)


def test_a_packed_map_is_a_plain_npz_without_the_time_of_day(monkeypatch):
    depth = np.zeros((3, 5), np.float32)
    depth[1, 2], depth[2, 4] = 7.1, 8
    content = encode_sparse_depth(depth)
    monkeypatch.setattr("time.time", lambda: 1e9)
    assert encode_sparse_depth(depth) == content
    stored = stored_in(content)
    assert np.flatnonzero(np.unpackbits(stored["known"])).tolist() == [7, 14]
    assert stored["depth"].tolist() == np.array([7.1, 8], np.float32).tolist()
    assert stored["shape"].tolist() == [3, 5]


def test_depth_in_256ths_of_a_metre_takes_two_bytes_a_pixel():
    stored = stored_in(encode_sparse_depth(np.array([[0, 0.5, 80]], np.float32)))
    assert stored["depth"].dtype == np.uint16
    assert stored["depth"].tolist() == [128, 20480]


@pytest.mark.parametrize("damage", [lambda c: b"", lambda c: c[:-30], lambda c: c[:60] + c[70:]])
def test_a_damaged_map_is_an_error_of_the_shard(damage):
    content = encode_sparse_depth(np.eye(50, dtype=np.float32))
    with pytest.raises(ShardError, match="damaged"):
        decode_sparse_depth(damage(content))


def packed(height, width, *, known=None, depth=None, method=zipfile.ZIP_DEFLATED):
    """A map that states this size, with members of other content."""
    members = {"shape": npy_of(np.array([height, width], np.int32))}
    members["known"] = (
        npy_of(np.zeros(-(-height * width // 8), np.uint8)) if known is None else known
    )
    members["depth"] = npy_of(np.zeros(0, np.uint16)) if depth is None else depth
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def npy_of(array, claimed=None):
    """The file of an array, whose header may claim another number of values."""
    stream = io.BytesIO()
    header = {"descr": array.dtype.str, "fortran_order": False, "shape": claimed or array.shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + array.tobytes()


def test_a_map_written_by_others_is_read():
    depth = decode_sparse_depth(packed(3, 5, method=zipfile.ZIP_STORED))
    np.testing.assert_array_equal(depth, np.zeros((3, 5)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            packed(100_000, 60_000, known=b""),
            "its size is 100000x60000; expected at most 64,000,000",
        ),
        (packed(-1, 60_000, known=b""), "its size is -1x60000"),
        (packed(4, 4, known=npy_of(np.zeros(10**7, np.uint8))), "known has 10000128 bytes"),
        (packed(4, 4, depth=npy_of(np.zeros(10**7, np.uint8))), "depth has 10000128 bytes"),
        (packed(4, 4, known=npy_of(np.zeros(2, np.uint8), (10**13,))), "known has 2 values of"),
        (packed(4, 4, known=npy_of(np.zeros(2, np.uint8), (2, 10**13))), "known has 2 values of"),
        (
            packed(4, 4, known=npy_of(np.full(2, 255, np.uint8))),
            "depth has 0 values .* expected 16",
        ),
        (packed(4, 4, method=zipfile.ZIP_LZMA), "compression method 14"),
    ],
    ids=["size", "sign", "mask", "depths", "header", "header 2", "too few depths", "method"],
)
def test_a_map_that_claims_more_than_it_holds_is_an_error_of_the_shard(content, message):
    with pytest.raises(ShardError, match=message):
        decode_sparse_depth(content)


def test_a_map_has_the_size_that_its_reader_expects():
    content = encode_sparse_depth(np.eye(5, dtype=np.float32))
    with pytest.raises(ShardError, match="its size is 5x5; expected 5x6"):
        decode_sparse_depth(content, (5, 6))


def test_a_ground_truth_of_another_size_than_the_camera_is_damage(tmp_path, monkeypatch):
    monkeypatch.setattr("helpers.small_shards.small_depth", lambda *_: np.eye(7, dtype=np.float32))
    write_small_shards(tmp_path, 1, ground_truth="velodyne")
    with pytest.raises(ShardError, match=r"sample 0 at byte 0 .*its size is 7x7; expected 64x128"):
        ShardDataset(tmp_path)[0]
