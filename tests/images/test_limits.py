"""Images that claim or unpack to more than memory and patience allow."""

import re
import zlib

import pytest
from helpers.image_bytes import chunk, encode, png_of, random_image
from PIL import Image, ImageFile

from md2dist.data import image_reader
from md2dist.data.image_reader import decode_rgb, load_image, read_image
from md2dist.data.images import decode_frame, decode_pixels
from md2dist.data.shards.image import decode_image
from md2dist.errors import ImageError, KittiDataError, ShardError

TEN_MEGABYTES = zlib.compress(bytes(10_000_000), 9)


@pytest.fixture
def no_pixels(monkeypatch):
    """Fails a test that decodes pixels."""

    def decode(*arguments):
        pytest.fail("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    monkeypatch.setattr(image_reader, "find_decoder", lambda *arguments: decode)


@pytest.mark.parametrize("size", [(13_000, 13_000), (64_000, 1_001), (2**31 - 1, 2**31 - 1)])
@pytest.mark.parametrize("read", [decode_frame, decode_pixels])
def test_too_many_pixels_are_refused_before_they_are_decoded(no_pixels, recwarn, size, read):
    words = rf"image a\.png cannot be used: it has {size[1]}x{size[0]} pixels; expected at most 64"
    with pytest.raises(KittiDataError, match=words):
        read(png_of(*size), "a.png")
    assert not recwarn  # as Pillow's own warning of bombs


def test_a_file_of_too_many_pixels_is_refused_by_its_name(no_pixels, tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(png_of(13_000, 13_000))
    with pytest.raises(ImageError, match=r"large\.png cannot be read as an image: it has 13000x"):
        read_image(path)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
def test_an_image_in_shards_has_the_size_of_their_recipe(no_pixels, image_format):
    content = encode(random_image(32, 64), image_format)
    with pytest.raises(ShardError, match="it has 32x64 pixels; expected 192x640"):
        decode_image(content, (192, 640))


def test_a_recipe_does_not_lift_the_limit_of_pixels(no_pixels):
    with pytest.raises(ShardError, match="it has 13000x13000 pixels; expected at most"):
        decode_image(png_of(13_000, 13_000), (13_000, 13_000))


@pytest.mark.parametrize("pixels", [(0, 5), (5, 0)])
def test_an_image_without_pixels_is_refused(pixels):
    with pytest.raises(ImageError):
        decode_rgb(png_of(*pixels))


@pytest.mark.parametrize(
    "bomb",
    [
        chunk(b"zTXt", b"Comment\0\0" + TEN_MEGABYTES),
        chunk(b"iTXt", b"Comment\0\1\0\0\0" + TEN_MEGABYTES),
        chunk(b"iCCP", b"profile\0\0" + TEN_MEGABYTES),
        chunk(b"tEXt", b"Comment\0" + bytes(900_000)) * 100,
    ],
    ids=["text", "international text", "colour profile", "many texts"],
)
def test_text_that_unpacks_to_megabytes_is_refused(bomb):
    with pytest.raises(ImageError, match=r"too large|Too much memory"):
        load_image(png_of(2, 2, bytes(6), bomb))


def test_a_jpeg_of_a_thousand_scans_is_refused_before_it_is_decoded(no_pixels):
    content = encode(Image.new("RGB", (32, 32)), "JPEG", progressive=True)
    last = [match.start() for match in re.finditer(b"\xff\xda", content)][-1]
    many = content[:-2] + 1000 * content[last:-2] + content[-2:]
    with pytest.raises(ImageError, match="scans; expected at most 100"):
        decode_rgb(many)


def test_a_progressive_photograph_is_read():
    assert decode_rgb(encode(random_image(64, 64), "JPEG", progressive=True)).size == (64, 64)


def test_a_file_larger_than_any_image_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(image_reader, "_MAX_BYTES", 1000)
    path = tmp_path / "large.png"
    path.write_bytes(encode(random_image(8, 8)))
    assert path.stat().st_size < 1000
    read_image(path)
    path.write_bytes(path.read_bytes() + bytes(1000))
    with pytest.raises(ImageError, match="more than 1,000 bytes"):
        read_image(path)
