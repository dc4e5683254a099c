import sys

import torch
from helpers.connected_ranks import run_ranks

from md2dist.distributed.world import World
from md2dist.errors import ShardError
from md2dist.training.start.checklist import Advice, Checklist

ALONE = World(0, 0, 1, torch.device("cpu"))


def fail(error):
    raise error


def test_each_check_is_a_line_and_those_that_need_a_failed_one_are_left_out(capsys):
    checks = Checklist(ALONE)
    checks.run("settings", lambda: 3, lambda value: f"{value} files")
    checks.run("shards", lambda: fail(ShardError("shard 7 is damaged; pack again")))
    checks.run("batch", lambda settings: settings * 2, lambda v: Advice(str(v)), ["settings"])
    checks.run("samples", fail, str, ["settings", "shards"])
    checks.run("folder", lambda: fail(FileNotFoundError(2, "No such file", "x.yaml")))
    assert capsys.readouterr().out.splitlines() == [
        "settings      ok     3 files",
        "shards        ERROR  shard 7 is damaged; pack again",
        "batch         note   6",
        "samples       -      needs shards",
        "folder        ERROR  x.yaml: No such file",
    ]
    assert checks.values == {"settings": 3, "batch": 6}
    assert checks.num_failed == 2


def check_on(world):
    checks = Checklist(world)
    checks.run("disk", lambda: fail(ShardError("disk full")) if world.rank else 1)
    checks.run("rank", lambda: world.rank)
    return checks.num_failed, checks.values


def test_a_check_fails_on_all_ranks_if_it_fails_on_one():
    assert run_ranks(check_on) == [(1, {"rank": 0}), (1, {"rank": 1})]


def test_a_terminal_breaks_no_word_of_a_line(capsys, monkeypatch):
    text = f"in use: start several ranks with --master-port N, see {'x' * 40}/y"
    Checklist(ALONE).print("port", "note", text)
    whole = capsys.readouterr().out
    assert whole == f"port          note   {text}\n"
    monkeypatch.setenv("COLUMNS", "48")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    Checklist(ALONE).print("port", "note", text)
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(line[21:] for line in lines) == text
    assert [line[:21].strip() for line in lines] == ["port          note", "", ""]
    assert all(len(line) <= 48 for line in lines[:-1])
