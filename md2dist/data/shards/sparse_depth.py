"""Lossless compression of sparse depth maps, the ground truth of samples."""

import io

import numpy as np

from md2dist.conventions import DEPTH_UNITS_PER_METRE
from md2dist.errors import ShardError


def encode_sparse_depth(depth: np.ndarray) -> bytes:
    """Compresses a sparse depth map without loss.

    Args:
        depth: (H, W) float32 in m, 0 where unknown.

    Returns:
        A compressed ``.npz``: ``known``, a bit per pixel, row by row, as `numpy.packbits` packs
        them; ``depth`` of the known pixels, uint16 in 1/256 m where that is exact, else float32 in
        m; ``shape``, int32. Equal maps give equal bytes.
    """
    known = depth != 0
    values = depth[known].astype(np.float32)
    counts = values.astype(np.float64) * DEPTH_UNITS_PER_METRE
    if ((counts == np.floor(counts)) & (counts > 0) & (counts < 2**16)).all():
        values = counts.astype(np.uint16)
    stream = io.BytesIO()
    np.savez_compressed(
        stream, known=np.packbits(known), depth=values, shape=np.array(depth.shape, np.int32)
    )
    return stream.getvalue()


def decode_sparse_depth(content: bytes | memoryview) -> np.ndarray:
    """Decompresses the output of `encode_sparse_depth`.

    Returns:
        Depth (H, W) float32 in m, 0 where unknown.

    Raises:
        ShardError: if the content is damaged.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            depth = np.zeros(stored["shape"], np.float32)
            known = np.unpackbits(stored["known"], count=depth.size).astype(bool)
            values = stored["depth"]
        if values.dtype == np.uint16:
            values = values / np.float32(DEPTH_UNITS_PER_METRE)
        depth.reshape(-1)[known] = values
        return depth
    except Exception as error:  # numpy, zipfile and zlib raise errors of many types
        raise ShardError(f"sparse depth is damaged ({error}); pack the shards again") from None
