"""Direct decoders: bit for bit the values of Pillow, or Pillow itself."""

import io
import logging
import sys

import numpy as np
import pytest
from helpers.image_bytes import chunk, encode, png_of, random_image
from PIL import ExifTags, Image

from md2dist.data import direct_decoders, image_reader
from md2dist.data.direct_decoders import find_decoder, plain_size
from md2dist.data.image_reader import SHARD_FORMATS, decode_array, decode_rgb
from md2dist.errors import ImageError

PLAIN = {
    "png": ("PNG", {}),
    "png, run lengths": ("PNG", {"compress_level": 1, "compress_type": 3}),
    "webp": ("WEBP", {"lossless": True, "quality": 0, "method": 0}),
    **{
        f"jpg {quality} {chroma}": ("JPEG", {"quality": quality, "subsampling": chroma})
        for quality in (10, 75, 92, 95, 100)
        for chroma in ("4:4:4", "4:2:2", "4:2:0")
    },
    "jpg, restarts": ("JPEG", {"restart_marker_blocks": 3}),
    "jpg, optimised": ("JPEG", {"optimize": True}),
}
TURNED = Image.Exif()
TURNED[ExifTags.Base.Orientation] = 6
TRANSPARENT = random_image()
TRANSPARENT.putalpha(99)
OTHER = {
    "progressive jpg": encode(random_image(), "JPEG", progressive=True),
    "turned jpg": encode(random_image(), "JPEG", exif=TURNED),
    "jpg with a colour profile": encode(random_image(), "JPEG", icc_profile=b"x" * 200),
    "grey jpg": encode(random_image().convert("L"), "JPEG"),
    "cmyk jpg": encode(random_image().convert("CMYK"), "JPEG"),
    "turned png": encode(random_image(), "PNG", exif=TURNED),
    "grey png": encode(random_image().convert("L"), "PNG"),
    "palette png": encode(random_image().quantize(9), "PNG"),
    "transparent png": encode(TRANSPARENT, "PNG"),
    "png with text": png_of(5, 5, bytes(15), chunk(b"tEXt", b"a\0b")),
    "turned webp": encode(random_image(), "WEBP", lossless=True, exif=TURNED),
    "lossy webp": encode(random_image(), "WEBP"),
    "transparent webp": encode(TRANSPARENT, "WEBP", lossless=True, exact=True),
    "animation": encode(
        random_image(), "WEBP", lossless=True, save_all=True, append_images=[random_image(seed=1)]
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def codecs():
    pytest.importorskip("imagecodecs")
    find_decoder.cache_clear()
    yield
    find_decoder.cache_clear()


@pytest.fixture
def no_pillow(monkeypatch):
    """Fails a test that reads a file with Pillow; the probes have been decoded before."""
    for image_format in SHARD_FORMATS:
        assert find_decoder(image_format, image_reader._decode_with_pillow)
    monkeypatch.setattr(image_reader, "load_image", lambda *_, **__: pytest.fail("Pillow decodes"))


def values(content):
    return np.asarray(Image.open(io.BytesIO(content)))


def smooth_image(height, width):
    y, x = np.mgrid[:height, :width]
    waves = [127 + 120 * np.sin(x / 9 + i) * np.cos(y / 7) for i in range(3)]
    return Image.fromarray(np.stack(waves, -1).astype(np.uint8))


@pytest.mark.parametrize(("image_format", "options"), PLAIN.values(), ids=PLAIN)
@pytest.mark.parametrize("size", [(1, 1), (17, 33), (64, 96)])
def test_plain_files_are_decoded_directly_to_the_values_of_pillow(
    no_pillow, image_format, options, size
):
    for image in (random_image(*size), smooth_image(*size)):
        content = encode(image, image_format, **options)
        assert plain_size(content) == size
        out = np.full((2, *size, 3), 7, np.uint8)
        found = decode_array(memoryview(content), SHARD_FORMATS, size, out[1], verify=False)
        assert np.shares_memory(found, out)
        np.testing.assert_array_equal(out[1], values(content))
        assert (out[0] == 7).all()
        rgb = decode_rgb(content, SHARD_FORMATS)
        np.testing.assert_array_equal(np.asarray(rgb), values(content))


def test_real_frames_have_the_values_of_pillow(shared, no_pillow):
    for name in ("raw/**/*.jpg", "raw_png/**/*.png"):
        path = next((shared / "kitti").glob(name))
        np.testing.assert_array_equal(decode_array(path.read_bytes()), values(path.read_bytes()))


@pytest.mark.parametrize("content", OTHER.values(), ids=OTHER)
def test_other_files_are_left_to_pillow(content):
    assert plain_size(content) is None
    found = decode_array(content, SHARD_FORMATS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_reader, "plain_size", lambda content: None)
        expected = decode_array(content, SHARD_FORMATS)
    np.testing.assert_array_equal(found, expected)


def test_a_turned_image_that_does_not_fit_is_refused():
    with pytest.raises(ImageError, match="it has 40x24 pixels; expected 24x40"):
        decode_array(OTHER["turned jpg"], SHARD_FORMATS, (24, 40), np.empty((24, 40, 3), np.uint8))


@pytest.mark.parametrize("image_format", SHARD_FORMATS)
def test_without_the_library_pillow_decodes(monkeypatch, image_format):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    assert find_decoder(image_format, image_reader._decode_with_pillow) is None
    content = encode(random_image(), image_format)
    out = np.empty((24, 40, 3), np.uint8)
    assert decode_array(content, SHARD_FORMATS, (24, 40), out, verify=False) is out
    np.testing.assert_array_equal(out, values(content))


def test_a_library_that_decodes_to_other_values_is_not_used_and_reported_once(monkeypatch, caplog):
    def decode(content, out):
        out[...] = values(content)
        out[-1, -1, 2] ^= 1

    monkeypatch.setitem(direct_decoders._DECODERS, "JPEG", decode)
    content = encode(random_image(), "JPEG")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            np.testing.assert_array_equal(decode_array(content), values(content))
    (record,) = caplog.records
    assert "imagecodecs decodes a JPEG to other values than Pillow" in record.getMessage()


@pytest.mark.parametrize("image_format", SHARD_FORMATS)
@pytest.mark.parametrize("keep", [3, 40, 0.3, 0.9, -200])
def test_a_truncated_file_is_refused_in_the_words_of_pillow(image_format, keep):
    options = {"lossless": True} if image_format == "WEBP" else {}
    content = encode(random_image(), image_format, **options)
    content = content[: int(keep * len(content)) if 0 < keep < 1 else keep]
    with pytest.raises(ImageError) as caught:
        decode_array(content, SHARD_FORMATS, (24, 40), verify=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_reader, "plain_size", lambda content: None)
        with pytest.raises(ImageError) as expected:
            decode_array(content, SHARD_FORMATS, (24, 40), verify=False)
    assert str(caught.value) == str(expected.value)
