import dataclasses
from functools import partial

import numpy as np
import pytest
from helpers.small_shards import small_depth, write_small_shards

from md2dist.commands.export_ground_truth import main
from md2dist.data.shards.manifest import SkippedDrive, read_manifest, write_manifest


def write_shards(folder, order="sequential", skipped=(), **options):
    """Small shards, in the order of their split."""
    write_small_shards(folder, 6, **{"ground_truth": "velodyne"} | options)
    manifest = read_manifest(folder)
    recipe = dataclasses.replace(manifest.recipe, order=order)
    write_manifest(dataclasses.replace(manifest, recipe=recipe, skipped=skipped), folder)
    return folder


@pytest.fixture
def run(run_main):
    return partial(run_main, main)


@pytest.mark.parametrize("ground_truth", ["velodyne", "annotated"])
def test_the_file_is_read_as_scripts_of_the_field_read_it(tmp_path, run, ground_truth):
    shards = write_shards(tmp_path / "shards", ground_truth=ground_truth)
    output = tmp_path / "new" / "gt_depths.npz"
    code, out, err = run("--shards", shards, "--output", output)
    assert (code, out) == (0, f"6 depth maps of small in {output}\n"), err
    with np.load(output, fix_imports=True, encoding="latin1", allow_pickle=True) as file:
        assert file.files == ["data"]
        maps = file["data"]
    assert (maps.shape, maps.dtype) == ((6,), object)
    for i, depth in enumerate(maps):
        assert depth.dtype == np.float32
        np.testing.assert_array_equal(depth, small_depth(i, 64, 128))


def test_lines_that_were_skipped_at_packing_are_counted(tmp_path, run):
    skipped = (
        SkippedDrive("2011_09_26/2011_09_26_drive_0001_sync", "no scan", count=2),
        SkippedDrive("2011_09_26/2011_09_26_drive_0002_sync 7 l", "no image"),
    )
    shards = write_shards(tmp_path / "shards", skipped=skipped)
    code, out, _ = run("--shards", shards, "--output", tmp_path / "gt_depths.npz")
    assert code == 0
    first = f"{skipped[0].name} (no scan)"
    assert out.startswith(f"3 lines of small were skipped at packing, first {first}; ")


@pytest.mark.parametrize(
    ("options", "output", "message"),
    [
        (
            {"ground_truth": "none"},
            "a.npz",
            "carries no ground truth; pack again with --split small",
        ),
        ({"ground_truth": "none"}, "a.npz", "--order sequential --ground-truth velodyne (annot"),
        ({"order": "shuffled"}, "a.npz", "is packed in shuffled order"),
        ({}, "a.npy", "a.npy: expected a name that ends in .npz"),
        ({}, "s3://bucket/a.npz", "is an address"),
    ],
)
def test_what_cannot_be_exported_ends_with_code_2_and_no_file(
    tmp_path, run, monkeypatch, options, output, message
):
    shards = write_shards(tmp_path / "shards", **options)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    code, out, err = run("--shards", shards, "--output", output)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert list((tmp_path / "here").iterdir()) == []


def test_only_results_are_replaced(tmp_path, run):
    shards, output = write_shards(tmp_path / "shards"), tmp_path / "gt_depths.npz"
    np.savez(output, data=np.arange(3))
    before = output.read_bytes()
    code, _, err = run("--shards", shards, "--output", output)
    assert (code, output.read_bytes()) == (2, before)
    assert f"{output} exists" in err
    assert run("--shards", shards, "--output", output, "--overwrite")[0] == 0
    assert run("--shards", shards, "--output", output)[0] == 0  # its own result


def test_a_damaged_sample_ends_with_code_2_and_no_file(tmp_path, run):
    shards = write_shards(tmp_path / "shards")
    shard = sorted(shards.glob("*.tar"))[1]
    content = bytearray(shard.read_bytes())
    content[2000] ^= 1
    shard.write_bytes(content)
    code, _, err = run("--shards", shards, "--output", tmp_path / "new" / "gt_depths.npz")
    assert code == 2
    assert "is damaged" in err
    assert list((tmp_path / "new").iterdir()) == []
