import io

import numpy as np
import pytest
from PIL import Image

from md2dist.data.images import decode_frame, encode_frame, resize_frame, resize_intrinsics
from md2dist.errors import KittiDataError


def real_frames(shared):
    folder = shared / "kitti" / "raw_png"
    paths = sorted(folder.rglob("*.png"))[:2]
    return [decode_frame(path.read_bytes(), path.name) for path in paths]


def smooth_frame(height=64, width=96):
    y, x = np.mgrid[:height, :width]
    channels = [127 + 120 * np.sin(x / 9 + i) * np.cos(y / 7) for i in range(3)]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8))


def mirrored(image):
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


@pytest.mark.parametrize("native", [(375, 1242), (370, 1226), (376, 1241)])
def test_flip_and_lanczos_resize_commute_bit_for_bit(native):
    pixels = np.random.default_rng(0).integers(0, 256, (*native, 3), np.uint8)
    frame = Image.fromarray(pixels)
    flipped_first = resize_frame(mirrored(frame), 192, 640)
    flipped_last = mirrored(resize_frame(frame, 192, 640))
    np.testing.assert_array_equal(np.asarray(flipped_first), np.asarray(flipped_last))


@pytest.mark.parametrize("image_format", ["png", "webp"])
def test_lossless_formats_keep_every_bit(image_format):
    noise = np.random.default_rng(1).integers(0, 256, (64, 96, 3), np.uint8)
    for frame in (Image.fromarray(noise), smooth_frame()):
        content = encode_frame(frame, image_format, quality=1)
        np.testing.assert_array_equal(
            np.asarray(Image.open(io.BytesIO(content))), np.asarray(frame)
        )


def test_jpeg_keeps_full_chroma_and_is_close():
    content = encode_frame(smooth_frame(), "jpg", quality=95)
    image = Image.open(io.BytesIO(content))
    assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3
    error = np.asarray(image, float) - np.asarray(smooth_frame(), float)
    assert np.sqrt(np.mean(error**2)) < 2


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("keep", [0, 20, 0.5])
def test_a_truncated_image_is_an_error_with_its_name_and_a_reproducible_message(suffix, keep):
    content = encode_frame(smooth_frame(), suffix, quality=95)
    content = content[: int(keep * len(content)) if keep < 1 else keep]
    with pytest.raises(KittiDataError, match=rf"0000000003\.{suffix} is broken") as caught:
        decode_frame(content, f"0000000003.{suffix}")
    assert "0x" not in str(caught.value)  # an address in memory


def test_intrinsics_keep_the_outer_edges_of_the_image():
    native, packed = (375, 1242), (192, 640)
    K = np.array([[721.5, 0, 609.6], [0, 721.5, 172.9], [0, 0, 1]])
    scaled = resize_intrinsics(K, native, packed)
    # The ray through the native image's corner (outer edge of its last pixel).
    ray = np.linalg.inv(K) @ np.array([native[1] - 0.5, native[0] - 0.5, 1])
    np.testing.assert_allclose(scaled @ ray, [packed[1] - 0.5, packed[0] - 0.5, 1], rtol=1e-12)
    ray = np.linalg.inv(K) @ np.array([-0.5, -0.5, 1])
    np.testing.assert_allclose(scaled @ ray, [-0.5, -0.5, 1], rtol=1e-12)


def test_intrinsics_follow_a_bright_spot_resized_with_lanczos():
    pixels = np.full((96, 160, 3), 100, np.uint8)  # grey, so that no negative lobe is clipped
    pixels[40:44, 100:104] = 200  # centred at (101.5, 41.5)
    resized = np.asarray(resize_frame(Image.fromarray(pixels), 32, 64), float)[..., 0] - 100
    y, x = np.mgrid[:32, :64]
    centre = [(x * resized).sum() / resized.sum(), (y * resized).sum() / resized.sum()]
    scaled = resize_intrinsics(np.eye(3), (96, 160), (32, 64)) @ [101.5, 41.5, 1]
    np.testing.assert_allclose(centre, scaled[:2], atol=0.05)


def test_real_frames_are_packed_without_loss(shared):
    for frame in real_frames(shared):
        resized = resize_frame(frame, 192, 640)
        content = encode_frame(resized, "png", 95)
        np.testing.assert_array_equal(
            np.asarray(Image.open(io.BytesIO(content))), np.asarray(resized)
        )
