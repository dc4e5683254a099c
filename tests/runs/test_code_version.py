import subprocess

import pytest

from md2dist.runs import start_log
from md2dist.runs.code_version import find_commit


def git(folder, *words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(
        ["git", *identity, *words], cwd=folder, capture_output=True, check=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    git(tmp_path, "init", "--quiet")
    (tmp_path / "code.py").write_text("x = 1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    return tmp_path


def test_a_checkout_has_its_commit_and_says_if_its_files_differ(checkout):
    commit = git(checkout, "rev-parse", "HEAD")
    git(checkout, "tag", "v1")
    assert find_commit(checkout) == commit
    (checkout / "code.py").write_text("x = 2\n")
    assert find_commit(checkout) == f"{commit}-dirty"


def test_a_folder_inside_another_checkout_or_a_broken_one_has_no_commit(checkout):
    (checkout / "site-packages").mkdir()
    assert find_commit(checkout / "site-packages") is None
    (checkout / ".git" / "HEAD").write_text("broken")
    assert find_commit(checkout) is None


def test_a_start_records_the_commit(monkeypatch):
    monkeypatch.setattr(start_log, "find_commit", lambda: "abc-dirty")
    assert start_log.list_versions()["commit"] == "abc-dirty"
    monkeypatch.setattr(start_log, "find_commit", lambda: None)
    assert "commit" not in start_log.list_versions()
