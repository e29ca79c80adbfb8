"""The Tours page leads somewhere, and the Repair page fills itself in from a tour."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.support.browser import PATIENCE, App, Tab

pytestmark = pytest.mark.browser


def test_a_tour_from_the_list_to_the_cards(tab: Tab) -> None:
    page = tab.open("/tours")
    tab.settle()
    page.get_by_role("button", name="Start").first.click()
    expect(page.get_by_role("heading", name="The wrong answer")).to_be_visible(timeout=PATIENCE)
    for heading in ("Where it is decided", "The careless fix", "The search"):
        page.get_by_role("button", name="Next").click()
        expect(page.get_by_role("heading", name=heading)).to_be_visible(timeout=PATIENCE)
        tab.settle()
    assert "step=4" in page.url
    tab.shoot("tours")
    page.get_by_role("button", name="Put the steer on cards").click()
    page.wait_for_url(re.compile(r"^(?!.*tours)"), timeout=PATIENCE)
    tab.settle()
    expect(page.get_by_text(re.compile("Multiplies|Suppresses|Holds")).first).to_be_visible(timeout=PATIENCE)


def test_the_repair_page_offers_an_example_to_who_has_no_result_yet(fresh_app: App, open_tab: Callable[..., Tab]) -> None:
    tab = open_tab(on=fresh_app)
    page = tab.open("/repair")
    page.get_by_role("button", name=re.compile("Try it: the capital of Turkey")).click()
    tab.settle()
    expect(page.get_by_label("Question that is answered wrong")).to_have_value("What is the capital of Turkey?")
    expect(page.get_by_role("button", name="Search for a fix")).to_be_enabled(timeout=PATIENCE)
    tab.shoot("repair")
