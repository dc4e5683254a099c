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
    "config": 0, "records": 0, "errors": 0,
    "geometry": 1, "networks": 1, "data": 1,
    "losses": 2, "evaluation": 2,
    "objective": 3, "model": 3, "weights": 3, "prediction": 3,
    "training": 4,
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
            assert len(path.relative_to(ROOT).parts) <= 3, path


def readme_commands():
    blocks = re.findall(r"```(?:bash|sh)\n(.*?)```", README, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def test_every_command_of_the_readme_names_an_existing_script_or_target():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    found = 0
    for command in readme_commands():
        words = command.split()
        for word in words:
            if word.endswith((".py", ".sbatch")) or word.startswith("configs/"):
                assert (ROOT / word).is_file(), command
                found += 1
        if words[0] == "make":
            assert set(words[1:]) <= targets, command
            found += 1
    assert found > 5


def test_every_option_that_the_readme_uses_exists():
    for command in readme_commands():
        script = next((w for w in command.split() if w.endswith((".py", ".sbatch"))), None)
        if script is None:
            continue
        source = (ROOT / script).read_text()
        if script.endswith(".sbatch"):  # which hands its options on
            source = (ROOT / re.search(r"\S+\.py", uncommented(source)).group()).read_text()
        own = command.split(script, 1)[1]
        for option in re.findall(r"(?<=\s)--([a-z-]+)", own):
            plain = option.removeprefix("no-")
            assert f'"--{option}"' in source or f'"--{plain}"' in source, command


def uncommented(script):
    """The lines of a shell script that do something."""
    return re.sub(r"^#.*\n", "", script, flags=re.MULTILINE)


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
