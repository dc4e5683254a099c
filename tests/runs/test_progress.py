import io
import logging
import sys

import pytest

from md2dist.runs.progress import Progress, show_time

METRICS = {
    "train/loss": 0.0712,
    "train/lr": 1e-4,
    "train/seconds_per_step": 2.0,
    "train/samples_per_second": 6.0,
    "train/data_wait": 0.03,
}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def open_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


def test_the_bar_starts_at_the_first_step_of_this_start_and_vanishes_at_the_end(monkeypatch):
    terminal = open_terminal(monkeypatch)
    shown = Progress(last_step=44, steps_per_epoch=11, num_epochs=4)
    assert terminal.getvalue() == ""
    shown.advance(20)
    assert "epoch 2/4 step 20/44 |" in terminal.getvalue()
    shown.close()
    assert terminal.getvalue().endswith("\r")
    assert terminal.getvalue().split("\r")[-2].strip() == ""


@pytest.mark.parametrize("columns", [80, 120])
def test_the_bar_shows_everything_in_the_width_of_the_terminal(monkeypatch, columns):
    terminal = open_terminal(monkeypatch)
    monkeypatch.setattr("tqdm.std._screen_shape_wrapper", lambda: lambda _: (columns, 40))
    shown = Progress(last_step=66_340, steps_per_epoch=3317, num_epochs=20)
    shown.advance(3400)
    shown.report(METRICS, 3410)
    shown._bar.mininterval = 0
    shown.advance(3410)
    shown._bar.refresh()
    line = terminal.getvalue().split("\r")[-1]
    shown.close()
    assert len(line) <= columns
    values = "loss 0.0712 lr 0.0001 6.0/s wait 3% left 1h47m/1d11h"
    assert line.startswith(f"epoch 2/20 step 3410/66340 {values} ")


def test_elsewhere_than_on_a_terminal_each_report_is_a_line(caplog, capsys):
    caplog.set_level(logging.INFO)
    shown = Progress(last_step=44, steps_per_epoch=11, num_epochs=4)
    shown.advance(0)
    for step in (10, 20, 44):
        shown.advance(step)
        shown.report(METRICS, step)
    shown.close()
    values = "loss 0.0712, rate 0.0001, 6.0 samples/s, 3 % data wait"
    assert caplog.messages == [
        f"step 10 of 44: epoch 1 of 4, {values}, left 2s in the epoch, 1m08s in the run",
        f"step 20 of 44: epoch 2 of 4, {values}, left 4s in the epoch, 48s in the run",
        f"step 44 of 44: epoch 4 of 4, {values}, left 0s in the epoch, 0s in the run",
    ]
    assert capsys.readouterr().err == ""


def test_durations_have_two_units():
    shown = [show_time(seconds) for seconds in (0.4, 59.6, 192, 3599.7, 43_320, 86_399, 200_000)]
    assert shown == ["0s", "1m00s", "3m12s", "1h00m", "12h02m", "1d00h", "2d08h"]
