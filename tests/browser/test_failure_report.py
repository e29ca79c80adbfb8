"""The report of a failed browser test says what its tabs showed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.support.browser import ROOT

pytestmark = pytest.mark.browser

_FAILS = """
from pathlib import Path
import pytest
from tests.support.browser import App

@pytest.fixture(scope="session")
def app(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    (home / "desks").mkdir()
    (home / "desks" / "0123.json").write_text("what was on the cards")
    return App("", home, None, home / "no.log")

def test_it(open_tab):
    tab = open_tab()
    tab.page.route("**/*", lambda route: route.fulfill(body="<main><button disabled>Run the set</button></main>", content_type="text/html"))
    tab.page.goto("http://127.0.0.1/?kept=0123")
    assert not "reached"
"""


def test_it_shows_the_page_its_address_and_its_desk(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "test_fails.py").write_text(_FAILS)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "tests.browser.conftest", "-p", "no:cacheprovider"]
    run = subprocess.run([*command, "--rootdir", str(tmp_path), str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 1, run.stdout + run.stderr
    for text in ("http://127.0.0.1/?kept=0123", '- button "Run the set" [disabled]', "kept: what was on the cards"):
        assert text in run.stdout, run.stdout
