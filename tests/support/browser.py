"""The running app on a port of its own, a browser tab on it, and the one Chromium of a test run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Error, Page, ViewportSize, expect, sync_playwright

from tests.support.ports import unused_port

ROOT = Path(__file__).parents[2]
SIZE: ViewportSize = {"width": 1440, "height": 900}
PATIENCE = 90_000
"""Milliseconds a test waits for what a busy machine may take long to show."""
expect.set_options(timeout=45_000)
_READY = "[data-testid='stApp'][data-test-script-state='notRunning']"


@dataclass
class App:
    """The running app."""

    url: str
    home: Path
    process: subprocess.Popen[bytes]
    log: Path


@dataclass
class Tab:
    """One browser tab on the app, with what it complained about."""

    page: Page
    app: App
    shots: Path
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str = "/") -> Page:
        """Go to an address of the app and wait until it is drawn."""
        self.page.goto(self.app.url + path)
        self.page.wait_for_selector("[data-testid='stApp']", timeout=PATIENCE)
        self.settle()
        return self.page

    def settle(self) -> None:
        """Wait until the app has nothing left to run."""
        self.page.wait_for_timeout(250)
        self.page.wait_for_selector(_READY, timeout=PATIENCE)
        self.page.wait_for_timeout(150)

    def ready(self) -> None:
        """Wait until the model is loaded and a question can be typed."""
        expect(self.page.get_by_placeholder("Ask the model something")).to_be_enabled(timeout=PATIENCE)
        self.settle()

    def ask(self, text: str) -> None:
        """Send a question and wait for the whole answer."""
        box = self.page.get_by_placeholder("Ask the model something")
        box.fill(text)
        box.press("Enter")
        expect(self.page.get_by_test_id("stMainBlockContainer").get_by_role("button", name="Stop")).to_be_visible(timeout=PATIENCE)
        self.answered()

    def answered(self) -> None:
        """Wait until no answer is being written."""
        expect(self.page.get_by_role("button", name="Regenerate")).to_be_visible(timeout=PATIENCE)
        self.ready()

    def shown(self) -> str:
        """For a failed test's report: the address, whether the app runs and is connected, what stands there, and the desk that is kept."""
        name = parse_qs(urlsplit(self.page.url).query).get("kept", [""])[0]
        desk = self.app.home / "desks" / f"{name}.json"
        try:
            app = self.page.locator("[data-testid='stApp']").or_(self.page.locator("body")).last
            states = app.evaluate("a => ['data-test-script-state', 'data-test-connection-state'].map(n => a.getAttribute(n))")
            main = self.page.locator("[data-testid='stMain']").or_(self.page.locator("body")).last
            seen = f"script and connection: {states}\n{main.aria_snapshot(timeout=20_000)}"
        except Error as error:  # a page that hangs: the test's own failure is not to be hidden by it
            seen = f"the page could not be read: {error}"
        kept = desk.read_text(encoding="utf-8") if name and desk.is_file() else "none"
        return f"{self.page.url}\n{seen}\nkept: {kept[:4000]}"

    def shoot(self, name: str, *, pointer: bool = False) -> Path:
        """A screenshot of what is seen; with `pointer`, also of what shows because the pointer is where it is."""
        self.settle()
        if not pointer:
            self.page.mouse.move(0, 0)
        self.shots.mkdir(parents=True, exist_ok=True)
        path = self.shots / f"{name}.png"
        self.page.screenshot(path=path)
        return path


def start_app(home: Path, log: Path, *, script: Path = ROOT / "streamlit_app.py", **environment: str) -> App:
    """Start the app (or another script) on a free port and wait until it answers."""
    port = unused_port()
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(script),
        "--server.port",
        str(port),
        "--server.headless",
        "true",
    ]
    variables = {**os.environ, "NEURONSCOPE_HOME": str(home), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), **environment}
    with log.open("wb") as sink:
        process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2) as answer:
                if answer.status == 200:
                    return App(url, home, process, log)
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the app did not start:\n{log.read_text(errors='replace')[-3000:]}")


def stop_app(app: App) -> None:
    """End the app and whatever it started."""
    if app.process.poll() is None:
        os.killpg(app.process.pid, signal.SIGTERM)
        try:
            app.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(app.process.pid, signal.SIGKILL)
            app.process.wait(timeout=20)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Chromium, headless. Without one the test that asks is skipped, but fails where CI is "true"."""
    path = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
    if path is None:
        reason = "Chromium is not installed (Debian: apt-get install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield opened
        opened.close()
