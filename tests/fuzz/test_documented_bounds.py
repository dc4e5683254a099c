"""The bounds in docs/security.md are those of the code."""

import importlib
import re

import pytest
from helpers.documents import TEXTS

TEXT = TEXTS["docs/security.md"]
UNITS = {"": 1, "bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
ROWS = re.findall(r"^\| .* \| ([\d,]+) ?(\w*) \| `([\w.]+)\.(\w+)` \|$", TEXT, re.MULTILINE)


def test_every_row_of_the_table_of_bounds_has_a_figure_and_its_constant():
    table = TEXT.partition("| constant |\n")[2].partition("\n\n")[0]
    assert len(ROWS) == len(table.splitlines()) - 1 > 15


@pytest.mark.parametrize(("figure", "unit", "module", "name"), ROWS, ids=[row[3] for row in ROWS])
def test_a_bound_is_that_of_the_code(figure, unit, module, name):
    value = getattr(importlib.import_module(module), name)
    assert int(figure.replace(",", "")) * UNITS[unit] == value
