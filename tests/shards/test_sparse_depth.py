import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

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
