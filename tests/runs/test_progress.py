import io
import logging
import sys

from md2dist.runs import progress
from md2dist.runs.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_bar_starts_at_the_first_step_of_this_start_and_vanishes_at_the_end(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    shown = Progress(last_step=44)
    shown.report("loss 0.5", 0)
    assert terminal.getvalue() == ""
    shown.advance(20)
    assert "20/44" in terminal.getvalue()
    shown.close()
    assert terminal.getvalue().endswith("\r")
    assert terminal.getvalue().split("\r")[-2].strip() == ""


def test_elsewhere_than_on_a_terminal_a_line_is_logged_now_and_then(monkeypatch, caplog, capsys):
    clock = iter([0, 0, 29, 31, 31])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    caplog.set_level(logging.INFO)
    shown = Progress(last_step=44)
    shown.advance(0)
    for step in (10, 20, 30):
        shown.advance(step)
        shown.report(f"loss 0.{step}", step)
    shown.close()
    assert caplog.messages == ["step 10 of 44: loss 0.10", "step 30 of 44: loss 0.30"]
    assert capsys.readouterr().err == ""
