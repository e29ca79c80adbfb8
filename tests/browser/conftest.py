"""Real Chromium against the real app on a port of its own, with a home of its own and the default model.

A test fails on any page error or console error. Without a browser the tests are skipped, but fail where CI is "true".
Screenshots go to docs/screenshots when NEURONSCOPE_SCREENSHOTS is set, else to the test's temporary folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, ViewportSize, expect, sync_playwright

ROOT = Path(__file__).parents[2]
SIZE: ViewportSize = {"width": 1440, "height": 900}
PATIENCE = 90_000
"""Milliseconds a test waits for what a busy machine may take long to show."""
expect.set_options(timeout=45_000)
_READY = "[data-testid='stApp'][data-test-script-state='notRunning']"
_HARMLESS = ("ResizeObserver loop",)


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
        expect(self.page.get_by_role("button", name="Stop")).to_be_visible(timeout=PATIENCE)
        self.answered()

    def answered(self) -> None:
        """Wait until no answer is being written."""
        expect(self.page.get_by_role("button", name="Regenerate")).to_be_visible(timeout=PATIENCE)
        self.ready()

    def shoot(self, name: str, *, pointer: bool = False) -> Path:
        """A screenshot of what is seen; with `pointer`, also of what shows because the pointer is where it is."""
        self.settle()
        if not pointer:
            self.page.mouse.move(0, 0)
        self.shots.mkdir(parents=True, exist_ok=True)
        path = self.shots / f"{name}.png"
        self.page.screenshot(path=path)
        return path


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def start_app(home: Path, log: Path, *, script: Path = ROOT / "streamlit_app.py", **environment: str) -> App:
    """Start the app (or another script) on a free port and wait until it answers."""
    port = _free_port()
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


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests."""
    path = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
    if path is None:
        reason = "Chromium is not installed (Debian: apt-get install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def app(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app, started once for all tests that do not need one of their own."""
    folder = tmp_path_factory.mktemp("browser")
    home = folder / "home"
    home.mkdir()
    (home / "models").symlink_to(Path(os.environ["NEURONSCOPE_HOME"]) / "models", target_is_directory=True)
    running = start_app(home, folder / "app.log")
    yield running
    stop_app(running)


@pytest.fixture
def open_tab(browser: Browser, app: App, tmp_path: Path) -> Iterator[Callable[..., Tab]]:
    """Makes tabs, each a browser session of its own. At the end, none of them may have complained."""
    tabs: list[Tab] = []
    shots = ROOT / "docs" / "screenshots" if os.environ.get("NEURONSCOPE_SCREENSHOTS") else tmp_path / "screenshots"

    def make(*, dark: bool = False, on: App | None = None, **options: Any) -> Tab:
        context = browser.new_context(
            **{
                "viewport": SIZE,
                "color_scheme": "dark" if dark else "light",
                "reduced_motion": "reduce",
                "accept_downloads": True,
                **options,
            }
        )
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        tab = Tab(page, on or app, shots)

        def hear(message: ConsoleMessage) -> None:
            # Streamlit looks for its server below a deep link's path first.
            probe = "/_stcore/" in str(message.location.get("url")) and "404" in message.text
            if message.type == "error" and not probe and not any(word in message.text for word in _HARMLESS):
                tab.complaints.append(message.text)

        page.on("console", hear)
        page.on("pageerror", lambda error: tab.complaints.append(str(error)))
        tabs.append(tab)
        return tab

    yield make
    complaints = [complaint for tab in tabs for complaint in tab.complaints]
    for tab in tabs:
        tab.page.context.close()
    assert not complaints, f"the browser complained: {complaints}\n{app.log.read_text(errors='replace')[-2000:]}"


@pytest.fixture
def tab(open_tab: Callable[..., Tab]) -> Tab:
    """One light tab of 1440 x 900."""
    return open_tab()
