"""Writes the generated parts of the documents: tables of settings and options, list of files.

    python docs/generate.py

Each part stands between two comments, `<!-- generated: NAME -->` and `<!-- end of NAME -->`.
"""

import ast
import re
import subprocess
from pathlib import Path

from md2dist.config.reference import list_sections
from md2dist.published_figures import FIGURES, METRICS
from md2dist.published_options import GROUPS

ROOT = Path(__file__).parent.parent
LISTED_FOLDERS = ("md2dist", "launch", "shard_tools", "configs", "docs")
UNLISTED_FILES = ("__init__.py", "py.typed", ".md", ".png")


def make_settings_table() -> str:
    """Lists all settings with default, meaning and published value."""
    parts = []
    for section in list_sections():
        title = section.name or "without a section"
        text = f"{section.meaning}\n\n" if section.name else ""
        rows = [
            f"| `{name}` | `{default}` | {_cell(meaning)} | {published} |\n"
            for name, default, meaning, published in section.settings
        ]
        head = "| setting | default | meaning | published |\n| --- | --- | --- | --- |\n"
        parts.append(f"### {title}\n\n{text}{head}{''.join(rows)}")
    return "\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def make_options_table() -> str:
    """Lists the options of the published code and of GluonCV with what takes their place."""
    parts = []
    for title, options in GROUPS.items():
        head = f"### {title}\n\n| option | here | difference |\n| --- | --- | --- |\n"
        rows = [
            f"| `{name}` | {option.ours or 'none'} | {option.difference} |\n"
            for name, option in options.items()
        ]
        parts.append(head + "".join(rows))
    return "\n".join(parts)


def make_figures_table() -> str:
    """Lists the published figures of all experiments of depth."""
    rows = [["experiment", *METRICS], ["---"] * (1 + len(METRICS))]
    for name, figures in FIGURES.items():
        cells = [f"{figure:.3f}" for figure in figures] if figures else [""] * len(METRICS)
        rows.append([f"`{name}`", *cells])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def make_file_list() -> str:
    """Lists all files of the program by folder, each with the first line of its docstring."""
    lines, folder = [], None
    for path in list_files():
        if path.parent != folder:
            folder = path.parent
            lines.append(f"{folder.relative_to(ROOT)}/")
        lines.append(f"  {path.name:<29} {first_sentence(path)}")
    return "```text\n" + "".join(f"{line}\n" for line in lines) + "```\n"


def list_files() -> list[Path]:
    """Lists the listed files that git knows or does not ignore, sorted by folder."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *LISTED_FOLDERS]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    paths = {ROOT / name for name in found.stdout.splitlines() if not name.endswith(UNLISTED_FILES)}
    order = [ROOT / folder for folder in LISTED_FOLDERS]

    def rank(path: Path) -> tuple[int, Path, str]:
        return order.index(ROOT / path.relative_to(ROOT).parts[0]), path.parent, path.name

    return sorted((path for path in paths if path.is_file()), key=rank)


def first_sentence(path: Path) -> str:
    """Reads the first line of a file's docstring, or of its comment."""
    text = re.sub(r"\A(#!.*\n|# shellcheck .*\n)*", "", path.read_text())
    is_python = path.suffix == ".py"
    words = (ast.get_docstring(ast.parse(text)) or "") if is_python else text.lstrip("#/* ")
    return words.partition("\n")[0].rstrip("*/ .")


PARTS = {
    "docs/training.md": ("settings", make_settings_table),
    "docs/coming_from.md": ("options", make_options_table),
    "docs/experiments.md": ("figures", make_figures_table),
    "docs/architecture.md": ("files", make_file_list),
}


def fill(document: str, name: str, content: str) -> str:
    """Replaces the part of a document between the two comments of a name."""
    start, end = f"<!-- generated: {name} -->\n", f"<!-- end of {name} -->"
    before, rest = document.split(start)
    return f"{before}{start}\n{content}\n{end}{rest.split(end)[1]}"


def main() -> None:
    """Writes all generated parts in place."""
    for path, (name, make) in PARTS.items():
        file = ROOT / path
        file.write_text(fill(file.read_text(), name, make()))


if __name__ == "__main__":
    main()
