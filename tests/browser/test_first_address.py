"""The first address that a fresh server is asked for, in real Chromium."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.support.browser import PATIENCE, App, Tab

pytestmark = pytest.mark.browser


def test_a_deep_link_is_the_first_address_of_a_fresh_server(fresh_app: App, open_tab: Callable[..., Tab]) -> None:
    tab = open_tab(on=fresh_app)
    tab.page.goto(f"{fresh_app.url}/repair")
    expect(tab.page.get_by_role("link", name="Statistics")).to_be_visible()
    tab.settle()
    expect(tab.page.get_by_text("Page not found")).to_have_count(0)
    expect(tab.page.get_by_text("What is wrong").or_(tab.page.get_by_text("wrong answer")).first).to_be_visible()
    assert tab.page.url == f"{fresh_app.url}/repair"


def test_any_page_is_a_first_address(fresh_app: App, open_tab: Callable[..., Tab]) -> None:
    page = open_tab(on=fresh_app).page
    page.goto(f"{fresh_app.url}/traces")
    expect(page.get_by_role("link", name="Traces", exact=True)).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_test_id("stDataFrame")).to_be_visible(timeout=PATIENCE)
