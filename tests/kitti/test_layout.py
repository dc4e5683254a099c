from zipfile import ZipFile

import pytest

from md2dist.data.kitti.layout import find_image, list_frames
from md2dist.data.kitti.tree import SourceTree
from md2dist.prediction.image_files import find_images

SEQUENCE = "00"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "sequences" / SEQUENCE / "image_2"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "PNG", "JPG", "JPEG", "Jpg"])
def test_packing_and_predicting_take_the_same_suffixes(folder, tmp_path, suffix):
    path = folder / f"000007.{suffix}"
    path.touch()
    tree = SourceTree(tmp_path)
    assert find_image(tree, SEQUENCE, 7, "l") == f"sequences/00/image_2/000007.{suffix}"
    assert list_frames(tree, SEQUENCE, "l") == {7}
    assert find_images(folder) == [path]


def test_what_macos_writes_beside_the_images_is_no_frame(folder, tmp_path):
    for name in ("000007.png", "._000007.png", "._000008.png", ".DS_Store"):
        (folder / name).touch()
    assert list_frames(SourceTree(tmp_path), SEQUENCE, "l") == {7}


def test_dot_files_are_none_of_kittis(tmp_path):
    folder = tmp_path / "2011_09_26" / "2011_09_26_drive_0001_sync" / "image_02" / "data"
    folder.mkdir(parents=True)
    for name in ("._0000000000.png", ".DS_Store", "0000000005.png"):
        (folder / name).write_bytes(b"x")
    path = tmp_path / "drive.zip"
    with ZipFile(path, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.relative_to(tmp_path))
            archive.write(file, f"__MACOSX/{file.relative_to(tmp_path).parent}/._{file.name}")
    for root in (tmp_path, path):
        (found,) = [SourceTree(root).files(str(folder.relative_to(tmp_path)))]
        assert found == {"0000000005.png"}
