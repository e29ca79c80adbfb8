"""Clusters, concepts and the atlas on the default model with its shipped atlas: hover, choose, keep, search, steer, wander, open."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from neurons.atlas.store import SHIPPED
from tests.support.browser import PATIENCE, Tab

_MANIFEST = SHIPPED / "manifest.json"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not _MANIFEST.exists() or "descriptions" not in json.loads(_MANIFEST.read_text("utf-8")), reason="no described atlas is shipped"
    ),
]


def tints(page: Page) -> list[str]:
    """The tint of every token of the conversation that is seen."""
    found = page.locator(".ns-list .tok:visible")
    return [str(found.nth(n).evaluate("token => token.style.getPropertyValue('--t')")) for n in range(found.count())]


def clusters(tab: Tab, view: str = "") -> Page:
    """The Clusters tab of the first example."""
    page = tab.open("/")
    tab.ready()
    if view:
        page.get_by_role("radio", name=view).click()
        tab.settle()
    page.get_by_role("tab", name="Clusters").click()
    expect(page.locator(".nc-card").first).to_be_visible(timeout=PATIENCE)
    tab.settle()
    return page


def test_a_cluster_tints_filters_and_is_kept(tab: Tab, open_tab: Callable[..., Tab]) -> None:
    page = clusters(tab)
    before = tints(page)
    card = page.locator(".nc-card").first
    card.locator(".label").hover()
    page.wait_for_timeout(200)
    hovered = tints(page)
    assert hovered != before
    page.mouse.move(5, 5)
    page.wait_for_timeout(200)
    assert tints(page) == before

    card.locator(".label").click()
    expect(page.locator(".nc-card.chosen")).to_have_count(1, timeout=PATIENCE)
    expect(page.get_by_text("cluster active")).to_be_visible(timeout=PATIENCE)
    tab.settle()
    page.mouse.move(5, 5)
    assert tints(page) == hovered
    tab.shoot("clusters")
    label = card.locator(".label").inner_text()
    size = int(card.locator(".size").inner_text().split()[0])

    card.get_by_role("button", name="Keep").click()
    expect(page.get_by_text(f"Kept {size} neurons as the concept")).to_be_visible(timeout=PATIENCE)
    card.get_by_role("button", name="Strengthen").click()
    expect(page.get_by_text(f"{size} neurons are on a new card")).to_be_visible(timeout=PATIENCE)
    page.get_by_role("tab", name="Neurons").click()
    expect(page.locator(".ns-plain", has_text=re.compile(rf"\d+ of its {size} neurons are here"))).to_be_visible(timeout=PATIENCE)
    page.get_by_role("button", name="Show all").click()
    expect(page.get_by_text("cluster active")).to_have_count(0, timeout=PATIENCE)
    tab.settle()
    assert tints(page) == before

    night = open_tab(dark=True)
    night.open("/concepts")
    expect(night.page.locator(".ns-plain").first).to_contain_text(f"{size} neurons in layer", timeout=PATIENCE)
    expect(night.page.locator(".ns-plain").first).to_contain_text(label)


def test_the_keyboard_reaches_the_cards(tab: Tab) -> None:
    page = clusters(tab, "Attribution")
    before = tints(page)
    page.locator(".nc-card .label").first.focus()
    page.wait_for_timeout(200)
    assert tints(page) != before
    page.keyboard.press("Enter")
    expect(page.locator(".nc-card.chosen")).to_have_count(1, timeout=PATIENCE)
    assert page.locator(".nc-cards img, .nc-cards script").count() == 0


def test_words_become_a_concept_that_steers(tab: Tab) -> None:
    page = tab.open("/concepts")
    words = page.get_by_role("textbox", name="What the neurons should be about")
    words.fill("court and law")
    page.get_by_test_id("stForm").get_by_role("button", name="Search").click()
    expect(page.get_by_text("Found, not saved yet.")).to_be_visible(timeout=PATIENCE)
    name = page.get_by_role("textbox", name="Name", exact=True)
    name.fill("law courts")
    name.press("Enter")
    tab.settle()
    page.get_by_role("button", name="Save 50").click()
    expect(page.get_by_text("Use in steering")).to_be_visible(timeout=PATIENCE)
    expect(page.locator(".ns-plain").first).to_contain_text("law courts")
    assert "concept=law+courts" in page.url
    tab.shoot("concepts")
    page.get_by_role("button", name="Suppress").click()
    said = page.get_by_text("neurons are on a new card")
    expect(said).to_be_visible(timeout=PATIENCE)
    applied = re.search(r"(\d+) neurons are on a new card", said.inner_text())
    assert applied is not None
    assert 40 <= int(applied[1]) <= 50  # a neuron that was found with both its sides is steered once
    page.get_by_role("button", name="Go to the Steer tab").click()
    expect(page.get_by_text(f"Suppresses {applied[1]} neurons: activation 0 at every token.")).to_be_visible(timeout=PATIENCE)


def test_the_atlas_is_shown_and_wandered_through(tab: Tab, open_tab: Callable[..., Tab]) -> None:
    page = tab.open("/atlas")
    expect(page.locator(".ns-plain").first).to_contain_text("of 92,160 neuron sides are described", timeout=PATIENCE)
    expect(page.get_by_text("How well the descriptions predict, by layer")).to_be_visible(timeout=PATIENCE)
    page.wait_for_timeout(1_500)
    tab.shoot("atlas")
    page.get_by_role("tab", name="Map").click()
    canvas = page.locator(".ns-map canvas")
    expect(page.locator(".ns-map canvas[data-seen='92160']")).to_be_visible(timeout=2 * PATIENCE)  # placed once for each server
    tab.settle()
    tab.shoot("atlas-map")
    assert "tab=map" in page.url
    far = shown(page)
    assert {"Mathematics", "Code"} < far
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    for _ in range(10):
        page.mouse.wheel(0, -240)
        page.wait_for_timeout(40)
    expect(canvas).to_have_attribute("data-seen", re.compile(r"^\d{1,4}$"), timeout=PATIENCE)
    assert len(shown(page) - far) > 5  # more names, and none of them twice
    page.get_by_role("button", name="The whole map").click()
    expect(page.locator(".ns-map canvas[data-seen='92160']")).to_be_visible(timeout=PATIENCE)
    page.get_by_role("textbox", name="Search").fill("football matches")
    page.get_by_role("textbox", name="Search").press("Enter")
    expect(page.get_by_text("Lit: 200 neuron sides")).to_be_visible(timeout=PATIENCE)
    tab.settle()
    page.wait_for_timeout(500)
    tab.shoot("atlas-map-search")
    assert any(re.match(r"\d+:\d+[+-] ", name) for name in shown(page))
    canvas.focus()
    page.keyboard.press("ArrowUp")
    expect(page.locator(".ns-map .tip")).to_contain_text("Click to open it", timeout=PATIENCE)
    name = page.locator(".ns-map .tip .name").inner_text()
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: parse_qs(urlsplit(url).query).get("neuron") == [name], timeout=PATIENCE)

    narrow = open_tab(dark=True, viewport={"width": 1024, "height": 768})
    narrow.open("/atlas?tab=build")
    expect(narrow.page.get_by_role("button", name="Build", exact=True)).to_be_visible(timeout=PATIENCE)


def shown(page: Page) -> set[str]:
    """The names that are written on the map."""
    return set((page.locator(".ns-map canvas").get_attribute("data-names") or "").split("\n"))
