"""The rules of the house, kept by tests instead of paragraphs."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "md2dist").rglob("*.py"))
TRACKED_FOLDERS = ("md2dist", "launch", "shard_tools", "tests")
FLOORS = {
    "config": 0, "config_merge": 0, "records": 0, "errors": 0,
    "geometry": 1, "networks": 1, "data": 1,
    "storage": 1, "console": 1, "process_map": 1, "synthetic": 1,
    "losses": 2, "evaluation": 2,
    "objective": 3, "model": 3, "weights": 3, "prediction": 3,
    "distributed": 4, "runs": 4, "training": 4, "benchmarks": 5,
}  # fmt: skip
README = (ROOT / "README.md").read_text()


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down_only(path):
    parts = path.relative_to(ROOT / "md2dist").with_suffix("").parts
    if parts == ("__init__",):
        return
    floor = FLOORS[parts[0]]
    for module in imported_modules(path):
        names = module.split(".")
        if names[0] in ("deepspeed", "wandb"):
            assert floor == 4, f"{module} belongs to training alone"
        if names[0] == "md2dist" and len(names) > 1 and names[1] != parts[0]:
            assert FLOORS[names[1]] <= floor, f"{path.name} imports {module} from a floor above"
            assert floor > 2 or names[1] != "config", "no Config object below floor 3"
        assert names[0] not in ("launch", "shard_tools")


def test_no_two_modules_of_the_package_import_each_other():
    graph = {}
    for path in SOURCES:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        graph[name] = {module for module in imported_modules(path) if module.startswith("md2dist.")}
    done, active = set(), []

    def visit(name):
        assert name not in active, f"import cycle: {[*active, name]}"
        if name not in done:
            active.append(name)
            for other in sorted(graph.get(name, ())):
                visit(other)
            done.add(active.pop())

    for name in graph:
        visit(name)


def test_no_file_is_longer_than_300_lines():
    paths = [path for folder in TRACKED_FOLDERS for path in (ROOT / folder).rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in paths}
    assert {path: length for path, length in lengths.items() if length > 300} == {}


def test_folders_are_at_most_two_levels_deep():
    for folder in TRACKED_FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            limit = 4 if folder == "md2dist" else 3
            assert len(path.relative_to(ROOT).parts) <= limit, path


def first_sentence(path):
    """What a file says of itself: its docstring's, or its comment's, first line."""
    text = path.read_text().removeprefix("#!/usr/bin/env bash\n")
    words = (
        (ast.get_docstring(ast.parse(text)) or "") if path.suffix == ".py" else text.lstrip("# ")
    )
    return words.splitlines()[0].rstrip(".")


def test_the_tree_in_the_readme_is_the_tree_and_says_what_the_files_say():
    block = re.search(r"```text\n(md2dist/.*?)```", README, re.DOTALL)
    assert block, "the README shows the file tree in a ```text block"
    told, folder = {}, ""
    for line in block.group(1).splitlines():
        if line.startswith(" "):
            name, _, words = line.strip().partition(" ")
            told[folder + name] = words.strip()
        else:
            folder = line
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    folders = ["md2dist", "launch", "shard_tools", "configs"]
    listed = subprocess.run([*command, *folders], cwd=ROOT, capture_output=True, text=True)
    paths = [path for path in listed.stdout.split() if (ROOT / path).is_file()]
    real = {p: first_sentence(ROOT / p) for p in paths if not p.endswith("__init__.py")}
    assert told == real
