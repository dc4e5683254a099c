"""`md2dist report` on runs as trainings leave them, also odd and hostile ones."""

import html.parser
import json
import math
import re

import pytest
from run_folders import NOW, add_restart, add_validation, write_run

from md2dist.commands import report
from md2dist.config import load_config, public_settings
from md2dist.config_merge import flatten
from md2dist.published_figures import FIGURES, METRICS
from md2dist.reports.html import table, tag
from md2dist.reports.line_chart import Chart, Curve, draw_chart
from md2dist.reports.page import render_report
from md2dist.reports.published import _settings_of, find_published
from md2dist.reports.run_record import read_run

HOSTILE = "</title><script>alert('x')</script>\"><img src=x onerror=alert(1)>"
MOST_BYTES = 3_000_000


class Parsed(html.parser.HTMLParser):
    """Elements and attributes of a page, and whether each one is closed."""

    def __init__(self, text):
        super().__init__()
        self.names, self.attributes, self.words, self._open = [], [], [], []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "img", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(self.words)


def report_of(*folders):
    content = render_report([read_run(folder) for folder in folders], NOW)
    assert len(content) < MOST_BYTES
    return Parsed(content.decode())


@pytest.fixture
def run(tmp_path):
    """A run with a restart and two validations."""
    folder = write_run(tmp_path / "run")
    add_restart(folder, 70, "failed", "rank 1 died")
    add_validation(folder, 50, 0.25)
    add_validation(folder, 100, 0.2)
    return folder


def test_a_report_has_curves_pictures_figures_settings_and_data(run):
    page = report_of(run)
    assert page.names.count("svg") == 2 * (5 + 7)  # each chart has an inner image
    assert page.names.count("img") == 4
    shown = ["scale 3", "Learning rate", "samples/s", "restart", "abs_rel", "rank 1 died"]
    shown += ["published mono_stereo_640x192", "node7", "eigen_zhou/train", "deepspeed"]
    assert [words for words in shown if words not in page.text] == []
    assert all(value for name, value in page.attributes if name == "alt")


def test_a_page_loads_and_runs_nothing(run):
    page = report_of(run)
    assert not {"script", "link", "iframe", "object", "form"} & set(page.names)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "style"]
    sources = [value for name, value in page.attributes if name in ("src", "href")]
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    policies = [value for _, value in page.attributes if value and "default-src" in value]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none'; img-src data:; style-src 'sha256-")


def test_hostile_names_settings_and_messages_are_text(tmp_path):
    folder = write_run(tmp_path / "<script>alert(1)<", words=[f"log.wandb_project={HOSTILE}"])
    add_restart(folder, 50, "failed", HOSTILE)
    other = write_run(tmp_path / "run", status="failed", message=HOSTILE)
    page = report_of(folder, other)
    assert not {"script"} & set(page.names)
    assert "onerror" not in dict(page.attributes)
    assert page.text.count("alert('x')") >= 3


def test_markup_comes_from_tag_alone():
    cell = '<b a="1">&\x00'
    assert tag("p", cell, title=cell) == (
        '<p title="&lt;b a=&quot;1&quot;&gt;&amp;\\x00">&lt;b a=&quot;1&quot;&gt;&amp;\\x00</p>'
    )
    assert '<td class="short">&lt;b a' in table(("a", "b"), [("c", cell)], "d")


def test_several_runs_share_charts_and_their_settings_are_compared(run, tmp_path):
    words = ["data.use_stereo=false", "optim.lr=3e-4"]
    other = write_run(tmp_path / "more" / "run", words=words)
    page = report_of(run, other)
    assert "run (2)" in page.text
    assert "Differences between the runs" in page.text
    assert "published mono_640x192" in page.text
    assert "Loss at scale 3" in page.text


@pytest.mark.parametrize("steps", [[], [1]])
def test_a_run_of_no_or_one_step_has_a_report(tmp_path, steps):
    page = report_of(write_run(tmp_path / "run", steps))
    assert "Not validated" in page.text
    assert ("No finite values" in page.text) == (not steps)


def test_a_run_of_an_earlier_version_has_a_report(run):
    (run / "starts.jsonl").unlink()
    (run / "config.yaml").write_text("unknown: 1\n")
    (run / "status.json").write_text(json.dumps({"status": "finished", "step": 1, "time": 1.5}))
    page = report_of(run)
    assert "its settings cannot be read: " in page.text
    assert "did not record restarts" in page.text


def test_values_that_are_not_finite_are_gaps_with_a_mark_and_a_count(tmp_path):
    losses = {3: None, 4: None}
    page = report_of(write_run(tmp_path / "run", losses=lambda step: losses.get(step, 0.1)))
    assert "not finite (10)" in page.text  # of the mean and of each scale
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 101, "time": 1.5, "train/loss": NaN, "train/lr": Infinity}\n')
        file.write('{"step": 102, "time": 1.5, "train/loss": 1e999, "val/abs_rel": -1e400}\n')
        file.write('{"step": "x"}\n[1]\n{"step": 103, "train/l')
    assert "not finite (12)" in report_of(tmp_path / "run").text


def test_100000_steps_are_drawn_with_their_spike_in_a_small_file(tmp_path):
    folder = write_run(tmp_path / "run", [1])
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(1, 100_001):
            loss = 7.5 if step == 61_803 else 0.2 + math.sin(step) / 100
            file.write(f'{{"step": {step}, "time": 1.5, "train/loss": {loss}}}\n')
    content = render_report([read_run(folder)], NOW)
    assert len(content) < 500_000
    assert b"mean: 0.19 to 7.5" in content


def test_a_curve_is_drawn_where_its_values_are():
    chart = Chart("a", "", [Curve("b", 0, [0, 50, 100], [0.0, 1.0, 0.0])], last_step=100)
    [path] = re.findall(r'<path d="([^"]+)" class="line c0">', draw_chart(chart))
    points = [tuple(map(int, point.split())) for point in re.split("[ML]", path)[1:]]
    high = 1 - 1 / 1.06  # the axis has a margin above
    expected = [(0, 1000), (1000, 1000 * high), (2000, 1000)]
    assert points == [(x, pytest.approx(y, abs=1)) for x, y in expected]


@pytest.mark.parametrize("name", [name for name, figures in FIGURES.items() if figures])
def test_an_experiment_is_most_like_itself(name):
    config = load_config([f"configs/experiments/{name}.yaml"])
    settings = flatten(public_settings(config)) | {"precision.dtype": "fp32"}
    published = find_published(config, settings)
    assert (published.name, published.differences) == (name, [])
    assert tuple(published.figures[metric] for metric in METRICS) == FIGURES[name]


def test_the_published_settings_are_those_of_the_package(tmp_path, monkeypatch):
    path = tmp_path / "configs" / "experiments" / "mono_640x192.yaml"
    path.parent.mkdir(parents=True)
    config = load_config(["configs/experiments/mono_640x192.yaml"])
    path.write_text("optim:\n  lr: 7.0\n")
    monkeypatch.chdir(tmp_path)
    _settings_of.cache_clear()
    settings = flatten(public_settings(config)) | {"precision.dtype": "fp32"}
    assert find_published(config, settings).differences == []


def test_what_differs_from_the_published_settings_is_listed(run):
    record = read_run(run)
    settings = record.settings | {"optim.lr": 3e-4, "data.width": 96, "seed": 9}
    differences = {d.key: d[1:] for d in find_published(record.config, settings).differences}
    assert differences["optim.lr"] == ("0.0003", "0.0001")
    assert differences["precision.dtype"] == ("bf16", "fp32")
    assert "seed" not in differences


def test_a_damaged_picture_is_left_out(run):
    for path in (run / "logs").glob("val-panel-0-*.jpg"):
        path.write_bytes(b"\xff\xd8\xff<script>")
    assert report_of(run).names.count("img") == 2


def test_a_report_replaces_reports_only(run, tmp_path, run_main):
    output = tmp_path / "out" / "report.html"
    assert run_main(report.main, run, "--output", output) == (0, f"{output}\n", "")
    assert run_main(report.main, run, "--output", output)[0] == 0
    output.write_text("mine")
    code, _, error = run_main(report.main, run, "--output", output)
    assert (code, output.read_text()) == (2, "mine")
    assert "is not such a result of md2dist; name another file, or pass --overwrite" in error
    assert run_main(report.main, run, "--output", output, "--overwrite")[0] == 0
    assert output.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing", "--output", "a.html"], "nothing is not a folder"),
        (["run", "--output", "a.txt"], "expected a name that ends in .html"),
        (["run"] * 17 + ["--output", "a.html"], "expected at most 16 in one report"),
    ],
)
def test_what_cannot_be_reported_is_one_line(run, run_main, monkeypatch, words, message):
    monkeypatch.chdir(run.parent)
    code, _, error = run_main(report.main, *words)
    assert (code, error.count("\n")) == (2, 1)
    assert message in error
    assert not (run.parent / "a.html").exists()
