"""The ranges of pyproject.toml against the versions that the constraints name."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {k: v for k, v in PROJECT["optional-dependencies"].items() if k != "dev"}
REQUIREMENTS = [
    Requirement(line) for lines in (PROJECT["dependencies"], *EXTRAS.values()) for line in lines
]


def read_versions(name):
    lines = (ROOT / name).read_text().splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {name: Version(version) for name, version in pairs}


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.name)
def test_a_range_begins_at_its_lowest_version_and_holds_the_tested_one(requirement):
    (lowest,) = [bound.version for bound in requirement.specifier if bound.operator == ">="]
    assert Version(lowest) == read_versions("constraints-lowest.txt")[requirement.name]
    assert requirement.specifier.contains(read_versions("constraints.txt")[requirement.name])


def test_nothing_else_is_held_at_its_lowest_version():
    names = {requirement.name for requirement in REQUIREMENTS}
    assert read_versions("constraints-lowest.txt").keys() == names
