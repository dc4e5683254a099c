"""README, CONTRIBUTING and docs/: what they name exists, and what is generated is up to date."""

import re
import runpy
import subprocess
import tomllib
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from helpers.documents import README, ROOT, SPLITS, TEXTS, blocks_of
from helpers.small_shards import small_info, write_small_shards
from PIL import Image

import md2dist
from md2dist.config import load_config
from md2dist.data.shards.entry import ShardEntry
from md2dist.data.shards.manifest import FORMAT_VERSION
from md2dist.data.shards.recipe import Recipe
from md2dist.weights import export_published
from md2dist.weights.onnx_export import export_onnx

LONGEST_README = 130  # lines
LARGEST_PICTURE = 300_000  # bytes
TREE_ROOTS = ("md2dist", "launch", "shard_tools", "configs", "docs", "tests")
GENERATOR = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "generate.py")))

every_document = pytest.mark.parametrize("name", TEXTS)


def test_the_readme_fits_on_a_page():
    assert len(README.read_text().splitlines()) <= LONGEST_README


@every_document
def test_every_target_of_make_exists(name):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    used = re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)", TEXTS[name], re.MULTILINE)
    assert {target for pair in used for target in pair if target} <= set(targets)


@every_document
def test_every_setting_that_is_named_exists_and_takes_its_value(name):
    config = load_config()
    sections = "|".join(vars(config))
    for key, value in re.findall(rf"`((?:{sections})\.\w+)(=\S+?)?`", TEXTS[name]):
        section, field = key.split(".")
        assert hasattr(getattr(config, section), field), key
        if value:
            load_config(overrides=[key + value])


@every_document
def test_every_split_that_is_named_exists(name):
    named = re.findall(r"(?<![\w/])(?:eigen\w*|benchmark|odom|rule)/\w+", TEXTS[name])
    assert set(named) <= SPLITS


@every_document
def test_every_relative_link_leads_to_a_file_and_to_a_heading_of_it(name):
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[name]):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = ((ROOT / name).parent / path).resolve() if path else ROOT / name
        assert file.exists(), target
        if anchor:
            assert anchor in headings_of(file.read_text()), target


def headings_of(text):
    """The anchors of all headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


@every_document
def test_every_file_that_is_named_in_code_exists(name):
    folders = r"(?:md2dist|launch|shard_tools|configs|docs|tests)"
    for path in re.findall(rf"`({folders}/[\w/.]+)`", TEXTS[name]):
        assert (ROOT / path).exists(), path


def test_every_module_and_folder_of_the_package_that_the_architecture_names_exists():
    text = TEXTS["docs/architecture.md"]
    rooms = "|".join(path.name for path in (ROOT / "md2dist").iterdir() if path.is_dir())
    named = set(re.findall(rf"`((?:{rooms})(?:/\w+)?)`", text))
    assert named
    for name in named:
        path = ROOT / "md2dist" / name
        assert path.is_dir() or path.with_suffix(".py").is_file(), name


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with the files that the examples open: a tiny model, shards and an image."""
    words = ["data.height=64", "data.width=96", "precision.dtype=fp32", "data.use_stereo=true"]
    model = md2dist.MonodepthModel.from_config(md2dist.load_config([], words))
    export_published(model, tmp_path / "runs" / "mono_stereo")
    write_small_shards(tmp_path / "shards" / "train")
    write_small_shards(tmp_path / "shards" / "test", ground_truth="velodyne")
    Image.new("RGB", (50, 37), "grey").save(tmp_path / "street.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", [name for name in TEXTS if blocks_of("python", name)])
def test_every_python_example_runs(name, workplace):
    blocks = blocks_of("python", name)
    if "model.onnx" in "".join(blocks):
        for library in ("onnx", "onnxruntime", "onnxscript"):
            pytest.importorskip(library)
        export_onnx(md2dist.load_model("runs/mono_stereo"), Path("model.onnx"))
    for block in blocks:
        exec(compile(block, name, "exec"), {})  # asserts are part of an example


def test_the_readme_shows_how_to_predict_from_python():
    [block] = blocks_of("python", "README.md")
    assert 'md2dist.load_model("runs/mono_stereo").predict(' in block


@pytest.mark.parametrize("name", GENERATOR.PARTS)
def test_the_generated_part_of_a_document_is_up_to_date(name):
    part, make = GENERATOR.PARTS[name]
    expected = GENERATOR.fill(TEXTS[name], part, make())
    assert TEXTS[name] == expected, f"{name} is out of date; run `make docs`"


def test_the_table_of_settings_has_a_row_for_every_setting():
    keys = {
        f"{section}.{name}"
        for section, settings in vars(load_config()).items()
        if section != "seed"
        for name in vars(settings)
    }
    rows = re.findall(
        r"^\| `([\w.]+)` \| `[^`]+` \| (.*) \| .* \|$", TEXTS["docs/training.md"], re.M
    )
    assert {key for key, _ in rows} == {*keys, "seed"}


def test_the_shard_format_lists_the_fields_and_the_version_of_the_package():
    text = TEXTS["docs/shard_format.md"]
    assert f"# Shard format, version {FORMAT_VERSION}\n" in text
    listed = []  # the names in the first column of each section's table
    for section in text.split("\n#"):
        cells = re.findall(r"^\| (.*?) \|", section, re.MULTILINE)
        listed.append(set(re.findall(r"`(\w+)`", " ".join(cells))))
    for kind in (Recipe, ShardEntry):
        assert {field.name for field in fields(kind)} in listed
    assert set(small_info(0, 32, 64)) in listed


def test_the_tree_of_the_readme_is_the_tree_of_folders():
    [block] = blocks_of("text", "README.md")
    shown, parents = [], []
    for line in block.splitlines():
        name = line.split()[0]
        level = (len(line) - len(line.lstrip())) // 2
        parents[level:] = [name.rstrip("/")]
        assert name.endswith("/")
        assert len(line.split()) > 2, f"{name} is not described"
        shown.append("/".join(parents))
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *TREE_ROOTS]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    files = [Path(path) for path in listed.stdout.split() if (ROOT / path).is_file()]
    folders = {folder.as_posix() for file in files for folder in file.parents} - {"."}
    real = {folder for folder in folders if not re.match(r"tests/|\w+/\w+/", folder)}
    assert sorted(shown) == sorted(real)


def test_the_citations_name_the_version_of_the_package():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert f"version = {{{version}}}" in TEXTS["README.md"]


def test_the_readme_counts_the_faults_of_the_last_drill():
    text = TEXTS["docs/reliability.md"].split("## Result")[1].split("\n## ")[0]
    rows = re.findall(r"^\| .+ \| .+ \| .+ \| yes \|$", text, re.MULTILINE)
    assert f"\n{len(rows)} faults, " in text
    assert f"**{len(rows)} injected faults survived**" in TEXTS["README.md"]


def test_the_readme_repeats_figures_of_the_benchmarks():
    [claims] = re.findall(r"- \*\*Fast on the CPU\*\*(.*?)\n- ", TEXTS["README.md"], re.DOTALL)
    for figure in re.findall(r"\d+\.\d+", claims):
        assert f"| {figure} |" in TEXTS["docs/benchmarks.md"]


def test_every_picture_of_the_documents_is_shown_and_small():
    shown = {
        Path(link).name
        for text in TEXTS.values()
        for link in re.findall(r"!\[.*?\]\((.*?)\)", text)
    }
    for path in (ROOT / "docs").glob("*.png"):
        assert path.name in shown
        assert path.stat().st_size < LARGEST_PICTURE


def test_the_changelog_says_nothing_twice():
    lines = (ROOT / "CHANGELOG.md").read_text().split("\n")
    assert [line for line in lines if line and lines.count(line) > 1] == []
