"""A report in a real browser: every figure is drawn, without complaints, wide and narrow."""

import html

import numpy as np
import pytest
from browser import open_page, screenshot
from PIL import Image
from run_folders import NOW, add_restart, add_validation, write_run

from md2dist.reports.page import render_report
from md2dist.reports.run_record import read_run

# Added to the page by the test, with a policy that allows it.
PROBE = """<script>addEventListener("load", () => {
  const boxes = [...document.querySelectorAll("svg path, img")].map(e => e.getBoundingClientRect());
  document.title = JSON.stringify({
    overflow: document.documentElement.scrollWidth - innerWidth,
    empty: boxes.filter(box => !(box.width + box.height > 0)).length,
    images: [...document.images].filter(image => image.naturalWidth > 0).length,
    cut: [...document.querySelectorAll("svg text")].filter(text => {
      const box = text.getBoundingClientRect();
      return box.left < 0 || box.right > innerWidth; }).length,
    small: [...document.querySelectorAll("body *")].filter(
      e => parseFloat(getComputedStyle(e).fontSize) < 12).length,
  });
});</script>"""
pytestmark = pytest.mark.slow  # a browser takes seconds to start


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report of two runs, one of them with restarts, hostile names and missing values."""
    folder = tmp_path_factory.mktemp("report")
    first = write_run(folder / "first<script>", losses=lambda s: None if s == 9 else 0.1 + 1 / s)
    add_restart(first, 70, "failed", "<script>throw 1</script>")
    second = write_run(folder / "second", words=["data.use_stereo=false"])
    for step in (50, 100):
        add_validation(first, step, 15 / step)
        add_validation(second, step, 10 / step)
    path = folder / "report.html"
    path.write_bytes(render_report([read_run(first), read_run(second)], NOW))
    return path


@pytest.mark.parametrize("width", [400, 1600])
def test_everything_is_drawn_and_readable(page, tmp_path, width):
    start, end = page.read_text().split("</body>")
    policy = start.index("style-src")
    probed = tmp_path / "probed.html"
    start = f"{start[:policy]}script-src 'unsafe-inline'; {start[policy:]}"
    probed.write_text(f"{start}{PROBE}</body>{end}")
    document, messages = open_page(probed, tmp_path, "--dump-dom", f"--window-size={width},1000")
    title = html.unescape(document.split("<title>")[1].split("</title>")[0])
    assert messages == []
    assert title == '{"overflow":0,"empty":0,"images":8,"cut":0,"small":0}'


@pytest.mark.parametrize("is_dark", [False, True])
def test_light_and_dark_follow_the_system_and_show_the_curves(page, tmp_path, is_dark):
    picture, messages = screenshot(page, tmp_path, 1600, 1000, is_dark)
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    assert messages == []
    assert (pixels[5, 5].mean() < 64) == is_dark
    blue = (95, 176, 255) if is_dark else (11, 98, 184)
    assert (np.abs(pixels - blue).sum(axis=2) < 12).sum() > 200


def test_a_script_in_a_report_would_not_run(page, tmp_path):
    attacked = tmp_path / "attacked.html"
    script = "<script>document.title = 'attacked'</script></body>"
    attacked.write_text(page.read_text().replace("</body>", script))
    document, messages = open_page(attacked, tmp_path, "--dump-dom")
    assert "<title>attacked" not in document
    assert any("Content Security Policy" in message for message in messages)
