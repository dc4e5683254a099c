"""A real browser without a window: Chromium, driven by its command line."""

import os
import re
import shutil
import subprocess

import pytest

_CONSOLE = re.compile(r"CONSOLE[:(]\S* (.*)")


def find_browser():
    """Returns the path of Chromium; skips the test without one, which fails in CI."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        reason = "no Chromium here; install the Debian package chromium"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def open_page(path, folder, *options):
    """Opens a page; returns its document after scripts have run, and the console's messages."""
    command = [
        find_browser(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        "--enable-logging=stderr", "--v=0", f"--user-data-dir={folder / 'profile'}",
        "--virtual-time-budget=10000", *options, path.as_uri(),
    ]  # fmt: skip
    process = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return process.stdout, _CONSOLE.findall(process.stderr)


def screenshot(path, folder, width, height, is_dark=False):
    """Returns the path of a picture of a page, and the console's messages."""
    picture = folder / f"{path.stem}-{width}-{'dark' if is_dark else 'light'}.png"
    options = [f"--window-size={width},{height}", f"--screenshot={picture}"]
    if is_dark:
        options.append("--blink-settings=preferredColorScheme=0")
    _, messages = open_page(path, folder, *options)
    return picture, messages
