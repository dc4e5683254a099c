"""Lossless compression of sparse depth maps, the ground truth of samples."""

import io
import zipfile

import numpy as np
from numpy.lib import format as npy

from md2dist.conventions import DEPTH_UNITS_PER_METRE
from md2dist.data.image_reader import MAX_PIXELS
from md2dist.errors import ShardError

_LARGEST_VALUE = 8  # bytes
_LARGEST_HEADER = 2**10  # bytes of an array's header in its file


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


def decode_sparse_depth(
    content: bytes | memoryview, size: tuple[int, int] | None = None
) -> np.ndarray:
    """Decompresses the output of `encode_sparse_depth`.

    Args:
        content: the compressed map.
        size: expected height and width in pixels; None: any. More than `MAX_PIXELS` are an error.

    Returns:
        Depth (H, W) float32 in m, 0 where unknown.

    Raises:
        ShardError: if the content is damaged or has another size, which is checked before any
            pixel is decompressed.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            shape = _read_member(archive, "shape", 2)
            height, width = _check_shape(shape, size)
            known = _read_member(archive, "known", -(-height * width // 8))
            mask = np.unpackbits(known, count=height * width).astype(bool)
            values = _read_member(archive, "depth", int(np.count_nonzero(mask)))
        if values.dtype == np.uint16:
            values = values / np.float32(DEPTH_UNITS_PER_METRE)
        depth = np.zeros((height, width), np.float32)
        depth.reshape(-1)[mask] = values
        return depth
    except Exception as error:  # numpy, zipfile and zlib raise errors of many types
        raise ShardError(f"sparse depth is damaged ({error}); pack the shards again") from None


def _read_member(archive: zipfile.ZipFile, name: str, count: int) -> np.ndarray:
    """Reads an array (count,), and no more bytes than it takes."""
    info = archive.getinfo(f"{name}.npy")
    # zipfile does not limit what the other methods decompress.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} has the compression method {info.compress_type}")
    if info.file_size > _LARGEST_VALUE * count + _LARGEST_HEADER:
        raise ValueError(f"{name} has {info.file_size} bytes; expected {count} values")
    file = io.BytesIO(archive.read(info))
    npy.read_magic(file)
    shape, _, dtype = npy.read_array_header_1_0(file)
    # np.load would allocate what the header claims.
    array = np.frombuffer(file.read(), dtype)
    if not shape == array.shape == (count,):
        raise ValueError(f"{name} has {len(array)} values of {shape}; expected {count}")
    return array


def _check_shape(shape: np.ndarray, expected: tuple[int, int] | None) -> tuple[int, int]:
    """Returns height and width from a stored shape, an array (2,)."""
    height, width = map(int, shape)
    if expected is not None and (height, width) != expected:
        raise ValueError(f"its size is {height}x{width}; expected {expected[0]}x{expected[1]}")
    if min(height, width) < 0 or height * width > MAX_PIXELS:
        raise ValueError(f"its size is {height}x{width}; expected at most {MAX_PIXELS:,} pixels")
    return height, width
