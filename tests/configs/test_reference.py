import re
import subprocess
import sys

import pytest
from helpers.running_job import ROOT

from md2dist.commands import train
from md2dist.config import load_config, public_settings
from md2dist.config.reference import describe_settings, list_sections

SETTINGS = {setting.name: setting for section in list_sections() for setting in section.settings}


def test_the_reference_has_every_setting_with_a_default_that_a_user_can_write():
    tree = public_settings(load_config())
    names = {
        f"{section}.{name}" if isinstance(values, dict) else section
        for section, values in tree.items()
        for name in (values if isinstance(values, dict) else [section])
    }
    assert names == set(SETTINGS)
    words = [f"{name}={setting.default}" for name, setting in SETTINGS.items()]
    assert load_config(overrides=words) == load_config()


def test_settings_are_printed_in_80_columns_with_their_published_values():
    text = describe_settings()
    assert max(map(len, text.splitlines())) <= 80
    assert set(re.findall(r"^  ([\w.]+)=", text, re.MULTILINE)) == set(SETTINGS)
    assert re.search(r"optim\.lr=1e-4 +\(published: 1e-4\)\n +learning rate of Adam", text)


def test_a_word_selects_settings_by_name_or_meaning(run_main):
    code, output, error = run_main(train.main, "--settings", "Depth")
    assert (code, error) == (0, "")
    found = re.findall(r"^  ([\w.]+)=", output, re.MULTILINE)
    assert {"loss.min_depth", "network.num_layers"} < set(found)
    assert "optim.lr" not in found


def test_a_word_of_no_setting_is_refused_with_the_sections(run_main):
    code, output, error = run_main(train.main, "--settings", "colour-blind")
    assert (code, output) == (2, "")
    assert "no setting has 'colour-blind'" in error
    assert "data, network, loss" in error


@pytest.mark.parametrize("words", [["--settings"], ["--settings", "lr"]])
def test_settings_are_printed_without_importing_torch(words):
    script = "import sys\nfrom md2dist.commands import train\ntrain.main()\n"
    script += "assert 'torch' not in sys.modules and 'wandb' not in sys.modules"
    process = subprocess.run([sys.executable, "-c", script, *words], cwd=ROOT, check=False)
    assert process.returncode == 0
