import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.small_shards import small_image, write_small_shards
from PIL import Image

from md2dist.data.shards.dataset import ShardDataset
from md2dist.errors import ConfigError
from md2dist.prediction.contact_sheet import contact_sheet, draw_random_samples
from md2dist.prediction.pictures import depth_overlay

SCRIPT = Path(__file__).parents[2] / "shard_tools" / "inspect_shards.py"


def inspect(*options):
    command = [sys.executable, str(SCRIPT), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def find_tile(sheet, image, width):
    """Rows and columns where an image, resized to `width`, lies on a sheet."""
    height = round(image.shape[0] * width / image.shape[1])
    tile = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
    candidates = np.argwhere((sheet == tile[0, 0]).all(-1) & (sheet != 255).any(-1))
    return [
        (row, column)
        for row, column in candidates.tolist()
        if np.array_equal(sheet[row : row + height, column : column + width], tile)
    ]


def test_a_sheet_shows_each_view_and_the_ground_truth_in_temporal_order(tmp_path):
    dataset = ShardDataset(write_small_shards(tmp_path, 6, ground_truth="velodyne"))
    samples = [dataset[0], dataset[4]]
    sheet = contact_sheet(samples, "small")
    tops = []
    for i, sample in zip((0, 4), samples, strict=True):
        views = [small_image(i, view, 32, 64) for view in ("-1", "0", "+1", "s")]
        views.append(depth_overlay(views[1], sample.ground_truth))
        places = [find_tile(sheet, view, 2080 // 5) for view in views[:4]]
        assert [len(place) for place in places] == [1] * 4
        rows, columns = zip(*(place[0] for place in places), strict=True)
        assert len(set(rows)) == 1
        assert np.diff(columns).tolist() == [2080 // 5 + 8] * 3
        overlay = sheet[rows[0] : rows[0] + 208, columns[3] + 424 : columns[3] + 424 + 416]
        expected = Image.fromarray(views[4]).resize((416, 208), Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(overlay, np.asarray(expected))
        tops.append(rows[0])
    assert tops[0] < tops[1]


def test_the_choice_is_random_seeded_and_without_repetition(tmp_path):
    dataset = ShardDataset(write_small_shards(tmp_path, 10, use_stereo=False, frame_offsets=()))
    sheet = draw_random_samples(dataset, 3, seed=1)
    np.testing.assert_array_equal(sheet, draw_random_samples(dataset, 3, seed=1))
    assert not np.array_equal(sheet, draw_random_samples(dataset, 3, seed=2))
    tiles = [find_tile(sheet, small_image(i, "0", 32, 64), 640) for i in range(10)]
    assert sum(map(len, tiles)) == 3
    assert max(map(len, tiles)) == 1


def test_more_samples_than_there_are_means_all_of_them(tmp_path):
    dataset = ShardDataset(write_small_shards(tmp_path, 2))
    np.testing.assert_array_equal(draw_random_samples(dataset, 9), draw_random_samples(dataset, 2))


def test_no_samples_asked_for_is_an_error(tmp_path):
    dataset = ShardDataset(write_small_shards(tmp_path, 2))
    with pytest.raises(ConfigError, match="--samples 0"):
        draw_random_samples(dataset, 0)


@pytest.mark.slow
def test_the_command_prints_the_card_and_draws_the_sheet(tmp_path):
    write_small_shards(tmp_path / "shards")
    done = inspect(tmp_path / "shards", "--picture", tmp_path / "sheet.png", "--samples", 2)
    assert done.returncode == 0, done.stderr
    assert "10 in 3 shards" in done.stdout
    dataset = ShardDataset(tmp_path / "shards")
    drawn = np.asarray(Image.open(tmp_path / "sheet.png"))
    np.testing.assert_array_equal(drawn, draw_random_samples(dataset, 2))


@pytest.mark.slow
def test_the_sheet_replaces_a_sheet_and_no_other_file(tmp_path):
    shards, sheet = write_small_shards(tmp_path / "shards", 2), tmp_path / "sheet.png"
    Image.new("RGB", (9, 9)).save(sheet)
    before = sheet.read_bytes()
    done = inspect(shards, "--picture", sheet)
    assert (done.returncode, sheet.read_bytes()) == (2, before)
    assert f"{sheet} exists" in done.stderr
    for words in (["--overwrite"], []):
        assert inspect(shards, "--picture", sheet, *words).returncode == 0


@pytest.mark.slow
def test_a_folder_without_shards_ends_in_one_line_and_exit_code_2(tmp_path):
    done = inspect(tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
