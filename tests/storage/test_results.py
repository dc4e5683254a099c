"""Paths of results are checked before anything is written."""

import pytest

from md2dist.errors import ImageError
from md2dist.storage.results import prepare_file, refuse_file_name


@pytest.mark.parametrize("name", ["p.jpg", "p", "p.png.txt", ".png"])
def test_a_file_with_the_suffix_of_another_format_is_refused_before_its_folder_exists(
    tmp_path, name
):
    with pytest.raises(ImageError, match=rf"{name}: expected a name that ends in \.png or \.npy"):
        prepare_file(tmp_path / "new" / name, suffixes=[".png", ".npy"])
    assert not (tmp_path / "new").exists()


def test_a_suffix_counts_in_any_case(tmp_path):
    prepare_file(tmp_path / "p.PNG", suffixes=[".png"])


@pytest.mark.parametrize("name", ["depth.png", "model.onnx", "DEPTH.JPG"])
def test_a_folder_that_is_named_as_a_file_is_refused_unless_it_exists(tmp_path, name):
    with pytest.raises(ImageError, match=f"{name} is named as a file; expected a folder"):
        refuse_file_name(tmp_path / name)
    (tmp_path / name).mkdir()
    refuse_file_name(tmp_path / name)


@pytest.mark.parametrize("name", ["depths", "run_0.5", "mono_v1.2"])
def test_a_folder_may_have_a_dot_in_its_name(tmp_path, name):
    refuse_file_name(tmp_path / name)
