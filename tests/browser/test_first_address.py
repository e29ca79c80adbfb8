"""The first address that a fresh server is asked for, in real Chromium."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect

from tests.support.browser import Tab, start_app, stop_app


def test_a_deep_link_is_the_first_address_of_a_fresh_server(open_tab: Callable[..., Tab], tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "models").symlink_to(Path(os.environ["NEURONSCOPE_HOME"]) / "models", target_is_directory=True)
    fresh = start_app(home, tmp_path / "app.log")
    try:
        tab = open_tab(on=fresh)
        tab.page.goto(f"{fresh.url}/repair")
        expect(tab.page.get_by_role("link", name="Statistics")).to_be_visible()
        tab.settle()
        expect(tab.page.get_by_text("Page not found")).to_have_count(0)
        expect(tab.page.get_by_text("What is wrong").or_(tab.page.get_by_text("wrong answer")).first).to_be_visible()
        assert tab.page.url == f"{fresh.url}/repair"
    finally:
        stop_app(fresh)
