import pytest

from md2dist.data.recordings.camera_file import find_camera_file, read_camera_file
from md2dist.errors import ConfigError

TEXT = "fx: 60.5\nfy: 61\ncx: 31.5\ncy: 23.5\nwidth: 64\nheight: 48\n"


def test_a_camera_file_gives_its_numbers(tmp_path):
    (tmp_path / "camera.yaml").write_text(f"{TEXT}baseline: 0.12\nright: other\n")
    settings = read_camera_file(tmp_path / "camera.yaml")
    assert settings.K.tolist() == [[60.5, 0, 31.5], [0, 61, 23.5], [0, 0, 1]]
    assert (settings.width, settings.height) == (64, 48)
    assert (settings.baseline, settings.right, settings.left) == (0.12, "other", None)


def test_the_file_beside_the_frames_comes_before_the_one_above(tmp_path):
    (tmp_path / "walk").mkdir()
    assert find_camera_file(tmp_path / "walk") is None
    (tmp_path / "camera.yaml").write_text(TEXT)
    assert find_camera_file(tmp_path / "walk") == tmp_path / "camera.yaml"
    (tmp_path / "walk" / "camera.yaml").write_text(TEXT)
    assert find_camera_file(tmp_path / "walk") == tmp_path / "walk" / "camera.yaml"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "lacks fx, fy, cx, cy, width, height; expected fx"),
        ("- 1\n", "has no keys"),
        ("fx: [", "cannot be parsed as YAML"),
        ("fx: 60\nheight: 48\n", r"lacks fy, cx, cy, width; expected"),
        (f"{TEXT}widht: 3\n", "unknown key widht; did you mean width"),
        (f"{TEXT}zzz: 3\n", "unknown key zzz; expected fx, fy"),
        (f"{TEXT}k1: -0.3\n", "unknown key k1: frames must be without distortion; undistort"),
        (TEXT.replace("60.5", "wide"), "fx is 'wide', expected a valid number"),
        (TEXT.replace("60.5", ".nan"), "fx"),
        (TEXT.replace("64", "64.5"), "width is 64.5"),
        (TEXT.replace("64", "0"), "width is 0"),
        (f"{TEXT}right: ../other\n", "right is '../other', expected a file name"),
        (f"{TEXT}right: other\n", "names the right camera other, but lacks baseline"),
        ("\0", "zero byte"),
        ("&a [*a]", "inside of itself"),
    ],
)
def test_a_fault_of_a_camera_file_is_named(tmp_path, text, words):
    path = tmp_path / "camera.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        read_camera_file(path)
    assert str(path) in str(caught.value)
