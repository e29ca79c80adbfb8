"""The Concepts tab in real Chromium, on the default model with its shipped detectors: read, hover, suppress, and what caused a token."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.support.browser import PATIENCE, Tab


def test_concepts_are_read_steered_and_measured(tab: Tab) -> None:
    page = tab.open("/")
    tab.ready()
    cards = page.locator(".nc-card")
    expect(cards.first).to_be_visible(timeout=PATIENCE)
    assert "capital cities" in [label.casefold() for label in page.locator(".nc-card .label").all_inner_texts()[:5]]
    expect(cards.first.locator(".facts")).to_contain_text(re.compile(r"once in (a million|[\d,]+) (phrases|texts)"))
    before = page.locator(".ns-list .tok:visible").first.evaluate("token => token.parentElement.innerHTML")
    cards.first.hover()
    page.wait_for_timeout(200)
    assert page.locator(".ns-list .tok:visible").first.evaluate("token => token.parentElement.innerHTML") != before
    page.mouse.move(0, 0)
    tab.shoot("concept-cards")

    cards.first.get_by_role("button", name="Suppress").click()
    expect(page.get_by_text("on a new card in the Steer tab")).to_be_visible(timeout=PATIENCE)
    tab.settle()

    page.get_by_role("radio", name="Attribution").click()
    tab.settle()
    page.locator(".tok", has_text="Istanbul").first.click()
    expect(page.get_by_text("Which concepts caused token")).to_be_visible(timeout=PATIENCE)
    expect(cards.first.locator(".facts")).to_contain_text(re.compile(r"without it .* becomes"))
    expect(page.locator(".ns-plain").first).to_contain_text("Written because of capital cities", timeout=PATIENCE)
    tab.shoot("concept-causes")
