"""Pictures, tables and artifacts of W&B."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Rows(NamedTuple):
    """Rows of a table, with the same columns; (H, W, 3) uint8 arrays among them are pictures."""

    rows: Sequence[Mapping[str, Any]]


def make_picture(picture: np.ndarray, step: int, kind: str = "png") -> Any:
    """Returns a W&B image of (H, W, 3) whose file is named by our step instead of W&B's own."""
    import wandb

    class Picture(wandb.Image):
        def bind_to_run(self, run: Any, key: Any, _: Any, *args: Any, **options: Any) -> None:
            super().bind_to_run(run, key, step, *args, **options)

    return Picture(picture, file_type=kind)


def make_table(table: Rows) -> Any:
    """Returns a W&B table; its pictures are JPEG files."""
    import wandb

    def cell(value: Any) -> Any:
        is_picture = isinstance(value, np.ndarray)
        return wandb.Image(value, file_type="jpg") if is_picture else value

    columns: list[Any] = list(table.rows[0])
    return wandb.Table(
        columns=columns, data=[[cell(row[name]) for name in columns] for row in table.rows]
    )


def make_artifact(name: str, checkpoint: Path, metadata: Mapping[str, Any]) -> Any:
    """Returns an artifact that refers to the files of a checkpoint, which are not copied.

    Raises:
        OSError: if they cannot be read.
    """
    import wandb

    artifact = wandb.Artifact(name, type="model", metadata=dict(metadata))
    for path in _list_files(checkpoint.resolve()):
        artifact.add_reference(path.as_uri(), name=path.name)
    return artifact


def _list_files(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())
