from types import SimpleNamespace

import torch

from md2dist.config import load_config
from md2dist.distributed.world import read_world
from md2dist.training import reporter
from md2dist.training.reporter import Reporter


class Log:
    """Keeps the order of what is logged."""

    def __init__(self):
        self.entries = []

    def log(self, metrics, step):
        self.entries.append(("metrics", step))

    def log_picture(self, name, picture, step):
        self.entries.append((name, step))

    def advance(self, step): ...


def test_a_picture_follows_the_metrics_of_its_step(monkeypatch):
    monkeypatch.setattr(reporter, "draw_panel", lambda result, loss: None)
    config = load_config([], ["log.every_steps=2", "log.pictures_every_steps=4"])
    log = Log()
    report = Reporter(log, config, SimpleNamespace(global_batch_size=1), read_world())
    zero = torch.zeros(())
    result = SimpleNamespace(losses=zero[None], gradient_norm=zero, learning_rate=zero)
    for step in range(1, 9):
        report.after_step(step, 0, result)
    report.flush(8, 0)
    expected = [("metrics", 2), ("metrics", 4), ("train/panel", 4)]
    expected += [("metrics", 6), ("metrics", 8), ("train/panel", 8)]
    assert log.entries == expected
