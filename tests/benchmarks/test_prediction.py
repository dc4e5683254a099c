import json
import tempfile

from helpers.image_bytes import random_image
from helpers.small_shards import write_small_shards

from md2dist.commands.bench import main


def test_prediction_and_evaluation_are_timed_against_their_network_and_leave_no_files(
    tmp_path, run_main, monkeypatch
):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "frames").mkdir()
    for number in range(3):
        random_image(seed=number).save(tmp_path / "frames" / f"{number}.png")
    shards, views = tmp_path / "shards", {"frame_offsets": (), "use_stereo": False}
    write_small_shards(shards, height=64, width=96, ground_truth="velodyne", **views)
    words = ["predict", "--input", tmp_path / "frames", "--shards", shards, "--repeats", 1]
    sizes = ["data.height=64", "data.width=96", "precision.dtype=fp32"]
    code, out, err = run_main(main, *words, "--output", tmp_path / "figures.json", *sizes)
    assert code == 0, err
    rows = json.loads((tmp_path / "figures.json").read_text())
    works = ["network alone", "predict", "predict --no-pictures", "evaluate"]
    assert [row["work"] for row in rows] == works
    assert rows[0]["ratio"] == rows[0]["ratio_of_cpu_time"] == 1
    assert all(row["images_per_second"] > 0 for row in rows)
    assert [row["images"] for row in rows[:3]] == [3, 3, 3]
    assert all(work in out for work in works)
    assert not list((tmp_path / "temporary").iterdir())
    code, _, err = run_main(main, *words[:-1], 0, *sizes)
    assert (code, err) == (2, "error: 0 timed repetitions; expected >= 1\n")
