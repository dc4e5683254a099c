"""The readers of images: named formats, one conversion, and no file that is half read."""

import io
import os

import numpy as np
import pytest
from helpers.image_bytes import encode, png_of, random_image
from PIL import EpsImagePlugin, ExifTags, Image, ImageOps

from md2dist.config import load_config
from md2dist.data.image_reader import convert_to_rgb, decode_rgb, load_image, read_image
from md2dist.data.images import decode_frame, decode_pixels
from md2dist.data.shards.image import decode_image
from md2dist.errors import ImageError, Md2distError
from md2dist.model import MonodepthModel

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n"


@pytest.fixture(scope="module")
def model():
    words = ["data.height=64", "data.width=96", "precision.dtype=fp32"]
    return MonodepthModel.from_config(load_config([], words)).eval()


@pytest.fixture
def readers(model, tmp_path):
    """All functions that take the bytes of an image file, by the command they belong to."""

    def from_file(read):
        def read_bytes(content):
            (tmp_path / "image.png").write_bytes(content)
            return read(tmp_path / "image.png")

        return read_bytes

    return {
        "pack": lambda content: decode_frame(content, "image.png"),
        "pack annotated depth": lambda content: decode_pixels(content, "image.png"),
        "shards": decode_image,
        "predict": from_file(read_image),
        "Python": from_file(model.predict),
    }


@pytest.mark.parametrize("place", ["pack", "pack annotated depth", "shards", "predict", "Python"])
def test_postscript_under_the_name_of_an_image_runs_nothing(readers, place, tmp_path, monkeypatch):
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/it_ran\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    with pytest.raises(Md2distError, match="not a PNG or JPEG"):
        readers[place](POSTSCRIPT)
    assert not (tmp_path / "it_ran").exists()


@pytest.mark.parametrize("image_format", ["TIFF", "GIF", "BMP", "WEBP", "PPM"])
def test_other_formats_are_refused_by_their_content_not_their_name(image_format):
    with pytest.raises(ImageError, match=r"^not a PNG or JPEG file$"):
        decode_rgb(encode(random_image(), image_format))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["PNG", "JPEG"])
def test_packing_and_predicting_turn_a_photograph_alike(
    readers, model, orientation, image_format, tmp_path
):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    content = encode(random_image(), image_format, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    assert expected.size == ((40, 24) if orientation < 5 else (24, 40))
    for place in ("pack", "predict", "shards"):
        np.testing.assert_array_equal(np.asarray(readers[place](content)), np.asarray(expected))
    depth = model.predict(expected).depth
    for image in (Image.open(io.BytesIO(content)), tmp_path / "image.png"):
        np.testing.assert_array_equal(model.predict(image).depth, depth)


@pytest.mark.parametrize("orientation", [0, 9, 700])
def test_an_orientation_that_is_none_turns_nothing(orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    content = encode(random_image(), exif=exif)
    np.testing.assert_array_equal(np.asarray(decode_rgb(content)), np.asarray(random_image()))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_grey_and_palette_images_keep_their_colours(mode, recwarn):
    image = random_image().convert(mode)
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(np.asarray(decode_rgb(encode(image))), expected)
    if mode == "P":
        transparent = encode(image, transparency=bytes(range(256)))
        np.testing.assert_array_equal(np.asarray(decode_rgb(transparent)), expected)
    assert not recwarn


def test_transparency_is_ignored():
    image = random_image()
    image.putalpha(7)
    np.testing.assert_array_equal(np.asarray(decode_rgb(encode(image))), np.asarray(random_image()))


def test_a_photograph_in_printing_colours_becomes_rgb():
    image = Image.new("RGB", (16, 16), (200, 60, 30))
    decoded = np.asarray(decode_rgb(encode(image.convert("CMYK"), "JPEG", quality=100)))
    np.testing.assert_allclose(decoded, np.asarray(image), atol=4)


def test_an_animation_is_its_first_image():
    later = [random_image(seed=seed) for seed in (1, 2)]
    content = encode(random_image(), save_all=True, append_images=later)
    np.testing.assert_array_equal(np.asarray(decode_rgb(content)), np.asarray(random_image()))
    webp = encode(random_image(), "WEBP", save_all=True, append_images=later, lossless=True)
    np.testing.assert_array_equal(decode_image(webp), np.asarray(random_image()))


@pytest.mark.parametrize("place", ["pack", "shards", "predict", "Python"])
@pytest.mark.parametrize("channels", ["grey", "colour"])
def test_an_image_of_16_bits_is_refused_for_that_reason(readers, place, channels):
    grey = encode(Image.fromarray(np.full((4, 8), 40000, np.uint16)))
    content = {"grey": grey, "colour": png_of(4, 2, bytes(range(24)), bits=16)}[channels]
    assert load_image(content).size == ((8, 4) if channels == "grey" else (4, 2))
    with pytest.raises(Md2distError, match="expected 8 bits per channel") as caught:
        readers[place](content)
    assert "broken" not in str(caught.value)


def test_a_pil_image_of_16_bits_is_refused_not_clipped(model):
    with pytest.raises(ImageError, match="it has the mode I;16; expected 8 bits per channel"):
        model.predict(Image.fromarray(np.full((4, 8), 40000, np.uint16)))


@pytest.mark.parametrize("options", [("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True})])
def test_an_image_that_was_cut_anywhere_is_an_error(options):
    image_format, extra = options
    content = encode(random_image(8, 8), image_format, **extra)
    decode_rgb(content)
    for length in range(len(content)):
        with pytest.raises(ImageError):
            decode_rgb(content[:length])


def test_a_changed_byte_of_a_png_is_an_error():
    content = encode(random_image(8, 8))
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 16
        with pytest.raises(ImageError):
            decode_rgb(bytes(damaged))


def test_a_truncated_pil_image_is_an_image_error(model):
    content = encode(random_image())
    with pytest.raises(ImageError, match="truncated"):
        model.predict(Image.open(io.BytesIO(content[: len(content) // 2])))


def test_a_conversion_changes_nothing_of_the_image_it_gets():
    image = random_image()
    assert convert_to_rgb(image) is image
