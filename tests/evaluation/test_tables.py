import csv
import json

import pytest

from md2dist.evaluation.depth_metrics import DepthMetrics
from md2dist.evaluation.depth_scores import ImageScore
from md2dist.evaluation.tables import (
    Table,
    as_json,
    as_markdown,
    holds_tables,
    write_scores,
    write_tables,
)

METRICS = DepthMetrics(0.115, 0.903, 4.863, 0.193, 0.877, 0.959, 0.981)
NAMES = list(DepthMetrics._fields)


def table(scaling=5.4, shards="shards/test", drives=("a", "a", "b")):
    scores = [
        ImageScore(f"{drive}_{frame}", drive, frame, "l", METRICS, 5.4, 1.0 + frame)
        for frame, drive in enumerate(drives)
    ]
    return Table(shards, "eigen/test", "12" * 32, "eigen", scaling, scores)


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_one_table_has_one_row_in_the_order_of_the_papers():
    header, line, row = as_markdown([table()]).splitlines()
    assert cells(header) == [*NAMES, "images", "median ratio", "ratio std"]
    assert row == "| 0.115 | 0.903 | 4.863 | 0.193 | 0.877 | 0.959 | 0.981 | 3 | 2.000 | 0.408 |"
    assert header.count("|") == line.count("|") == row.count("|")


def test_columns_name_what_the_rows_differ_in():
    header, _, *rows = as_markdown([table(), table("calibrated")], per_drive=True).splitlines()
    assert cells(header)[:3] == ["scaling", "drive", "abs_rel"]
    assert [cells(row)[:2] for row in rows] == [
        ["5.4", "all"], ["5.4", "a"], ["5.4", "b"],
        ["calibrated", "all"], ["calibrated", "a"], ["calibrated", "b"],
    ]  # fmt: skip
    other = table(shards="shards/benchmark")._replace(protocol="eigen_benchmark")
    header, *_ = as_markdown([table(), other]).splitlines()
    assert cells(header)[:3] == ["shards", "protocol", "abs_rel"]


def test_json_has_the_first_table_at_the_top_and_all_in_a_list():
    content = as_json({"step": 7}, [table(), table("calibrated")], per_drive=True)
    assert content["step"] == 7
    assert (content["scaling"], content["abs_rel"], content["num_images"]) == (5.4, 0.115, 3)
    assert [record["scaling"] for record in content["tables"]] == [5.4, "calibrated"]
    assert content["tables"][1]["drives"]["a"]["num_images"] == 2
    assert "drives" not in as_json({}, [table()], per_drive=False)


def test_the_suffix_names_the_format(tmp_path):
    for suffix in ("json", "csv", "md"):
        path = tmp_path / f"out.{suffix}"
        write_tables(path, "heading", {"step": 7}, [table()], per_drive=True)
    assert json.loads((tmp_path / "out.json").read_text())["step"] == 7
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert [row["drive"] for row in rows] == ["all", "a", "b"]
    assert [float(rows[0][name]) for name in NAMES] == pytest.approx(METRICS)
    assert (tmp_path / "out.md").read_text().startswith("heading\n\n| drive | abs_rel |")


def test_the_scores_of_each_image_are_a_row(tmp_path):
    write_scores(tmp_path / "images.csv", [table(), table("calibrated")])
    rows = list(csv.DictReader((tmp_path / "images.csv").open()))
    assert len(rows) == 6
    assert [row["key"] for row in rows[:3]] == ["a_0", "a_1", "b_2"]
    assert rows[3]["scaling"] == "calibrated"
    assert float(rows[2]["median_ratio"]) == 3
    assert [float(rows[0][name]) for name in NAMES] == pytest.approx(METRICS)


def test_tables_and_scores_are_told_from_other_files(tmp_path):
    for name in ("a.json", "a.csv", "a.md"):
        write_tables(tmp_path / name, "heading", {}, [table()], per_drive=False)
        assert holds_tables(tmp_path / name)
        (tmp_path / name).write_text("a diary, of which abs_rel is no part")
        assert not holds_tables(tmp_path / name)
    write_scores(tmp_path / "images.csv", [table()])
    assert holds_tables(tmp_path / "images.csv")
    assert not holds_tables(tmp_path / "absent.csv")
