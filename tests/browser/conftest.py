"""Real Chromium against the real app on a port of its own, with a home of its own and the default model.

A test fails on any page error or console error; what its tabs showed is in its report. Without a browser the tests are skipped, but
fail where CI is "true".
Screenshots go to docs/screenshots when NEURONSCOPE_SCREENSHOTS is set, else to the test's temporary folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage

from tests.support.browser import PATIENCE, ROOT, SIZE, App, Tab, start_app, stop_app

_HARMLESS = ("ResizeObserver loop",)
_TABS = pytest.StashKey[list[Tab]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds to the report of a failed test what its tabs show: on another machine nobody can look."""
    report = yield
    if report.when == "call" and report.failed:
        report.sections += [(f"tab {number}", tab.shown()) for number, tab in enumerate(item.stash.get(_TABS, []), 1)]
    return report


@pytest.fixture(scope="session")
def app(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app, started once for all tests that do not need one of their own."""
    yield from _started(tmp_path_factory.mktemp("browser"))


@pytest.fixture
def fresh_app(browser: Browser, tmp_path: Path) -> Iterator[App]:
    """An app of the test's own, which nobody has used: no conversation, no result, no model loaded yet."""
    yield from _started(tmp_path)


def _started(folder: Path) -> Iterator[App]:
    """The app with an empty home in `folder` that shares the machine's models, until its fixture ends."""
    home = folder / "home"
    home.mkdir()
    (home / "models").symlink_to(Path(os.environ["NEURONSCOPE_HOME"]) / "models", target_is_directory=True)
    running = start_app(home, folder / "app.log")
    yield running
    stop_app(running)


@pytest.fixture
def open_tab(browser: Browser, app: App, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Tab]]:
    """Makes tabs, each a browser session of its own. At the end, none of them may have complained."""
    tabs = request.node.stash.setdefault(_TABS, [])
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
