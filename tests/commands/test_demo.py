import json

import pytest

from md2dist.commands.demo import claim_folder
from md2dist.errors import ConfigError


def test_a_demo_takes_new_folders_and_those_of_demos_of_any_version(tmp_path):
    for _ in range(2):
        claim_folder(tmp_path)
    (tmp_path / "earlier").mkdir()
    summary = {"abs_rel": 0.2, "baseline_abs_rel": 0.4, "ratio": 0.5}
    (tmp_path / "earlier" / "summary.json").write_text(json.dumps(summary))
    for _ in range(2):
        claim_folder(tmp_path / "earlier")


@pytest.mark.parametrize("content", ["{}", '{"abs_rel": 0.2}', "mine"])
def test_a_demo_takes_no_folder_of_other_files(tmp_path, content):
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(ConfigError, match="holds files that are not of a demo"):
        claim_folder(tmp_path)
