"""Texts of the documents that are tested: README, CONTRIBUTING and docs/."""

import re
from pathlib import Path

from md2dist.data.kitti.published_splits import PUBLISHED_SPLITS

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in DOCUMENTS}
SPLITS = {*PUBLISHED_SPLITS, "rule/train", "rule/val", "all"}


def blocks_of(language, name):
    """Returns the code blocks of a document whose language matches a pattern."""
    return re.findall(rf"```(?:{language})\n(.*?)```", TEXTS[name], re.DOTALL)
