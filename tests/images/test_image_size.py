import pytest
from PIL import Image, ImageFile

from md2dist.data.image_reader import read_image
from md2dist.data.image_size import read_size
from md2dist.errors import DamagedImageError, ImageError


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_the_size_is_that_of_the_upright_image(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"image.{suffix}"
    Image.new("RGB", (20, 10)).save(path, exif=exif)
    image = read_image(path)
    assert read_size(path) == (image.height, image.width)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_the_size_is_read_without_decoding(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"image.{suffix}"
    Image.new("RGB", (20, 10)).save(path)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    assert read_size(path) == (10, 20)


def test_a_file_that_is_no_image_or_missing_is_named(tmp_path):
    (tmp_path / "image.png").write_bytes(b"GIF89a")
    with pytest.raises(DamagedImageError, match=r"image\.png is not a PNG or JPEG file"):
        read_size(tmp_path / "image.png")
    with pytest.raises(ImageError, match=r"other\.png cannot be read: No such file"):
        read_size(tmp_path / "other.png")
