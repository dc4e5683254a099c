"""The rules of the house, kept by tests instead of paragraphs."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "md2dist").rglob("*.py"))
TRACKED_FOLDERS = ("md2dist", "launch", "shard_tools", "tests")
FLOORS = {
    "errors": 0, "records": 0, "geometry": 0, "networks": 0, "losses": 0, "conventions": 0,
    "kernel_style": 0,
    "console": 1, "storage": 1, "process_map": 1, "parent_process": 1, "config_merge": 1,
    "machine_limits": 1, "pipeline": 1, "config_yaml": 1, "published_options": 1,
    "published_figures": 1,
    "data.images": 1, "data.image_reader": 1, "data.image_size": 1,
    "data.direct_decoders": 1, "data.intrinsics": 1, "data.video": 1,
    "data.kitti": 2, "data.recordings": 2, "data.shards": 2, "distributed": 2,
    "synthetic": 2, "config": 2,
    "data.packing": 3, "data.inspection": 3, "data.loading": 3,
    "evaluation": 3, "runs": 3, "objective": 3,
    "model": 4, "image_prediction": 4,
    "weights": 5, "prediction": 5,
    "training": 6,
    "benchmarks": 7, "reports": 7,
    "commands": 8,
}  # fmt: skip
INDEPENDENT = {
    ("data.kitti", "data.shards"), ("data.recordings", "data.shards"),
    ("data.shards", "data.kitti"), ("data.shards", "data.recordings"),
}  # fmt: skip
HEAVY = {"deepspeed": {"training"}, "wandb": {"runs"}}  # only these rooms import them
MOST_FILES_OF_A_FOLDER = 20
MOST_PARAMETERS = 8


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def room_of(names):
    """The room of a module, given as its names below md2dist; None of a bare folder."""
    return next((room for n in (2, 1) if (room := ".".join(names[:n])) in FLOORS), None)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down_only(path):
    room = room_of(path.relative_to(ROOT / "md2dist").with_suffix("").parts)
    if path.name == "__init__.py" and room is None:
        return
    for module in imported_modules(path):
        library, *names = module.split(".")
        assert room in HEAVY.get(library, {room}), f"{module} belongs to {HEAVY[library]}"
        assert library not in ("launch", "shard_tools")
        if library != "md2dist" or not names:
            continue
        other = room_of(names)
        assert FLOORS[other] <= FLOORS[room], f"{path.name} imports {module} from a floor above"
        assert (room, other) not in INDEPENDENT, f"{path.name} imports {module}"
        # The objective takes its section of it.
        is_allowed = FLOORS[room] > 3 or room in ("config", "objective")
        assert is_allowed or other != "config", "no Config object below the model"


def test_one_module_alone_opens_image_files():
    reader = ROOT / "md2dist" / "data" / "image_reader.py"
    for path in set(SOURCES) - {reader}:
        plugins = [name for name in imported_modules(path) if re.match(r"PIL\..*Plugin", name)]
        openers = [
            node
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute) and ast.unparse(node).endswith("Image.open")
        ]
        assert not plugins + openers, f"{path} opens image files"
        is_decoder = path.stem == "direct_decoders"
        codecs = {"imagecodecs", "md2dist.data.direct_decoders"} & set(imported_modules(path))
        assert is_decoder or not codecs, f"{path} decodes images"


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


def test_no_folder_holds_more_than_20_files():
    folders = {path.parent for folder in TRACKED_FOLDERS for path in (ROOT / folder).rglob("*.py")}
    sizes = {str(folder): len(list(folder.glob("*.py"))) for folder in folders}
    assert {folder: n for folder, n in sizes.items() if n > MOST_FILES_OF_A_FOLDER} == {}


def parameters_of(path):
    """Name and number of parameters of each function, `self` and `cls` aside."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            yield node.name, len([name for name in named if name.arg not in ("self", "cls")])


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_function_takes_more_than_8_parameters(path):
    assert [name for name, count in parameters_of(path) if count > MOST_PARAMETERS] == []


TENSOR = re.compile(r"\b(Tensor|ndarray|NDArray)\b")
# (B, 3, H, W), (G / (P * N),), () or words
SHAPE = re.compile(r"\(([^()]|\([^()]*\))*,[^()]*\)|\(\)|\bany shape\b|\bof a shape\b")


def functions_of_tensors(path):
    """Name and docstring of each function that takes or returns tensors, nested ones aside."""
    module = ast.parse(path.read_text())
    for scope in (module, *(node for node in module.body if isinstance(node, ast.ClassDef))):
        for node in (node for node in scope.body if isinstance(node, ast.FunctionDef)):
            named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            types = [name.annotation for name in named] + [node.returns]
            if any(TENSOR.search(ast.unparse(kind)) for kind in types if kind):
                yield node.name, ast.get_docstring(node) or ""


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_function_of_tensors_states_their_shapes(path):
    silent = {name for name, text in functions_of_tensors(path) if not SHAPE.search(text)}
    assert silent - {"__init__"} == set()  # `__init__`: documented in the class


def test_the_floors_of_the_architecture_are_these():
    text = (ROOT / "docs" / "architecture.md").read_text()
    shown = {}
    for floor, rooms in re.findall(r"^\| (\d) \| (.*) \|$", text, re.MULTILINE):
        shown |= {room.replace("/", "."): int(floor) for room in re.findall(r"`([\w/]+)`", rooms)}
    assert shown == FLOORS
