import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.file_server import serve_files
from local_wandb import KEY

from md2dist.errors import ConfigError
from md2dist.runs.wandb.mode import choose_mode
from md2dist.runs.wandb.server import describe_silence

PROGRAM = """
import sys
from md2dist.errors import ConfigError
from md2dist.runs.wandb.mode import choose_mode
try:
    print(*choose_mode(sys.argv[1]))
except ConfigError as error:
    print("refused:", error)
"""


def choose(tmp_path, setting, **variables):
    """Chooses a mode in a process of its own, since W&B would stay logged in."""
    (tmp_path / "netrc").write_text(variables.pop("netrc", ""))
    others = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    paths = {"NETRC": str(tmp_path / "netrc"), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, setting],
        cwd=Path(__file__).parents[2],
        env={**others, **paths, **variables},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("variable", "mode"), [("Disabled", "disabled"), (" disabled\n", "disabled")]
)
def test_capitals_and_spaces_of_the_variable_do_not_matter(monkeypatch, variable, mode):
    monkeypatch.setenv("WANDB_MODE", variable)
    assert choose_mode("auto") == (mode, "")
    assert os.environ["WANDB_MODE"] == mode


@pytest.mark.parametrize("variable", ["run", "dryrun", "shared", "onlin", "off\x1bline"])
def test_another_mode_is_refused_with_the_valid_ones(monkeypatch, variable):
    monkeypatch.setenv("WANDB_MODE", variable)
    with pytest.raises(ConfigError) as caught:
        choose_mode("auto")
    assert str(caught.value) == (
        f"WANDB_MODE={variable.replace(chr(27), '?')} is not a mode of W&B: set it to online, "
        "offline or disabled, or unset it"
    )


def test_the_setting_overrides_the_variable(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "onlin")
    assert choose_mode("disabled") == ("disabled", "")


@pytest.mark.slow
@pytest.mark.parametrize("variables", [{}, {"WANDB_MODE": ""}, {"WANDB_API_KEY": " "}])
def test_without_an_account_a_run_is_offline_unless_it_must_be_online(tmp_path, variables):
    assert choose(tmp_path, "auto", **variables) == "offline"
    refusal = choose(tmp_path, "online", **variables)
    assert refusal.startswith("refused: log.wandb_mode=online, but no W&B account was found; ")
    assert refusal.endswith("or set log.wandb_mode=offline or log.wandb_mode=disabled")


@pytest.mark.slow
def test_an_account_is_found_wherever_wandb_would_find_it(tmp_path):
    with serve_files() as server:
        address = {"WANDB_BASE_URL": server.url}
        host = server.url.removeprefix("http://")
        netrc = f"machine {host} login user password {KEY}"
        assert choose(tmp_path, "auto", **address, WANDB_API_KEY=f"{KEY}\n") == "online"
        assert choose(tmp_path, "auto", **address, netrc=netrc) == "online"
        assert choose(tmp_path, "online", **address, netrc=netrc, WANDB_MODE="OFFLINE") == "online"
        assert choose(tmp_path, "auto", **address, netrc=netrc, WANDB_MODE="OFFLINE") == "offline"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["auto", "online"])
def test_with_an_account_and_no_network_a_run_is_offline_and_says_so(tmp_path, mode):
    variables = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": KEY}
    assert choose(tmp_path, mode, **variables) == (
        "offline W&B logs offline: 127.0.0.1:9 cannot be reached (Connection refused)"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "variables", [{"WANDB_API_KEY": KEY[:-1]}, {"netrc": f"default login user password {KEY[:-1]}"}]
)
def test_a_key_that_is_cut_off_is_refused_with_the_modes_and_never_shown(tmp_path, variables):
    for setting in ("auto", "online"):
        refusal = choose(tmp_path, setting, **variables)
        assert refusal.startswith("refused: W&B's API key is malformed: ")
        assert "API key must have 40+ characters, has 39; " in refusal
        assert refusal.endswith("or set log.wandb_mode=offline or log.wandb_mode=disabled")
        assert KEY[:-1] not in refusal
    assert choose(tmp_path, "offline", **variables) == "offline"


@pytest.mark.slow
def test_another_malformed_variable_of_wandb_is_named(tmp_path):
    refusal = choose(tmp_path, "offline", WANDB_BASE_URL="api.wandb.ai")
    assert refusal.startswith("refused: W&B's setting WANDB_BASE_URL is malformed: ")


@pytest.mark.slow
def test_a_settings_file_that_is_no_text_is_named(tmp_path):
    path = tmp_path / ".config" / "wandb" / "settings"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"[default]\nentity = caf\xe9\n")
    refusal = choose(tmp_path, "offline")
    assert refusal.startswith("refused: W&B's settings or ~/.netrc cannot be read: ")


@pytest.mark.slow
def test_a_server_behind_a_proxy_of_wandb_is_left_to_wandb(tmp_path):
    unknown = {"WANDB_BASE_URL": "http://no.such.host.invalid", "WANDB_API_KEY": KEY}
    assert choose(tmp_path, "online", **unknown).startswith("offline")
    proxy = {"WANDB_HTTP_PROXY": "http://127.0.0.1:9"}
    assert choose(tmp_path, "online", **unknown, **proxy) == "online"


def test_a_server_that_answers_is_found_even_if_the_answer_is_an_error():
    with serve_files() as server:
        server.files["/"] = b"hello"
        assert describe_silence(server.url) == ""
        server.files.clear()
        assert describe_silence(server.url) == ""
        server.faults = ["503"]
        host = server.url.removeprefix("http://")
        assert describe_silence(server.url) == f"{host} cannot be reached (HTTP 503)"


def test_a_server_that_stays_silent_holds_the_start_for_a_few_seconds_only():
    with serve_files() as server:
        server.faults = ["drip-head"]
        begin = time.monotonic()
        silence = describe_silence(server.url.replace("http://", "http://user:secret@"))
    assert time.monotonic() - begin < 10
    assert silence == f"{server.url.removeprefix('http://')} cannot be reached (no answer)"
