"""Tables of depth metrics: as Markdown, CSV and JSON."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from md2dist.evaluation.depth_scores import (
    NAMES,
    DepthReport,
    ImageScore,
    summarise,
    summarise_drives,
)
from md2dist.storage.results import holds_figures, write_json, write_result

SUFFIXES = (".json", ".csv", ".md")
ALL_DRIVES = "all"
_LABELS = ("shards", "split", "protocol", "scaling")  # first columns of a CSV file
_NUM_BYTES_OF_HEADER = 4096


class Table(NamedTuple):
    """Scores of one folder of shards, with one scaling."""

    shards: str  # as passed, without secrets
    split: str  # name of the list of samples
    shard_digest: str
    protocol: str
    scaling: float | str
    scores: Sequence[ImageScore]

    def labels(self) -> dict[str, Any]:
        """Returns what identifies the table, named as in JSON."""
        values = self._asdict()
        del values["scores"]
        return values

    def rows(self, per_drive: bool) -> dict[str, DepthReport]:
        """Returns the means over all images, and on request those of each drive, by its name."""
        drives = summarise_drives(self.scores) if per_drive else {}
        return {ALL_DRIVES: summarise(self.scores)} | drives


def holds_tables(path: Path) -> bool:
    """Returns whether a file holds tables or scores that this module wrote."""
    if path.suffix.lower() == ".json":
        return holds_figures(path, "shard_digest")
    try:
        with path.open("rb") as file:
            start = file.read(_NUM_BYTES_OF_HEADER)
    except OSError:
        return False
    header = ",".join(_LABELS) if path.suffix.lower() == ".csv" else "| abs_rel | sq_rel |"
    return header.encode() in start


def write_tables(
    path: Path, heading: str, title: Mapping[str, Any], tables: Sequence[Table], per_drive: bool
) -> None:
    """Writes tables in the format that the suffix of a path names.

    Args:
        path: a file .json, .csv or .md.
        heading: what was scored, for Markdown.
        title: what was scored, by name, for JSON.
        tables: at least one.
        per_drive: whether to add a row for each drive.

    Raises:
        ImageError: if the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        write_json(path, as_json(title, tables, per_drive))
    elif suffix == ".csv":
        rows = (
            pick(table.labels(), *_LABELS) | {"drive": drive} | report.as_dict()
            for table in tables
            for drive, report in table.rows(per_drive).items()
        )
        _write_csv(path, rows)
    else:
        text = f"{heading}\n\n{as_markdown(tables, per_drive)}\n"
        write_result(path, lambda file: file.write(text.encode()))


def write_scores(path: Path, tables: Sequence[Table]) -> None:
    """Writes a CSV file with a row for each image and scaling, in the order of the shards.

    Raises:
        ImageError: if the file cannot be written.
    """
    rows = (
        pick(table.labels(), *_LABELS) | score.as_dict()
        for table in tables
        for score in table.scores
    )
    _write_csv(path, rows)


def as_json(title: Mapping[str, Any], tables: Sequence[Table], per_drive: bool) -> dict[str, Any]:
    """Returns the title, labels and figures of the first table, and the list of all tables."""
    records = []
    for table in tables:
        rows = {drive: report.as_dict() for drive, report in table.rows(per_drive).items()}
        record = table.labels() | rows.pop(ALL_DRIVES)
        records.append(record | {"drives": rows} if per_drive else record)
    return {**title, **records[0], "tables": records}


def as_markdown(tables: Sequence[Table], per_drive: bool = False) -> str:
    """Returns one table, its columns ordered as in the papers.

    Columns that name shards, protocol, scaling and drive are added where the rows differ in them.
    """
    rows = [
        (pick(table.labels(), "shards", "protocol", "scaling") | {"drive": drive}, report)
        for table in tables
        for drive, report in table.rows(per_drive).items()
    ]
    shown = [name for name in rows[0][0] if len({labels[name] for labels, _ in rows}) > 1]
    header = [*shown, *(name.replace("_", " ") if name in _WORDS else name for name in _COLUMNS)]
    lines = [header, ["---"] * len(shown) + ["---:"] * len(_COLUMNS)]
    lines += [[*(str(labels[name]) for name in shown), *_format(report)] for labels, report in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def pick(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Returns some of the values, by name."""
    return {name: values[name] for name in names}


_COLUMNS = ["images" if name == "num_images" else name for name in NAMES]
_WORDS = ("median_ratio", "ratio_std")


def _format(report: DepthReport) -> list[str]:
    values = report.as_dict().values()
    return [str(value) if isinstance(value, int) else f"{value:.3f}" for value in values]


def _write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    stream = io.StringIO()
    first, *others = rows
    writer = csv.DictWriter(stream, list(first), lineterminator="\n")
    writer.writeheader()
    writer.writerows([first, *others])
    write_result(path, lambda file: file.write(stream.getvalue().encode()))
