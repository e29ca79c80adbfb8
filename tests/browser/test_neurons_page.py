"""The Neurons page on the default model with its shipped atlas: search, open, hover, try a text, go to a neighbour, come back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from neurons.atlas.store import SHIPPED
from tests.support.browser import PATIENCE, Tab

_MANIFEST = SHIPPED / "manifest.json"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not _MANIFEST.exists() or "descriptions" not in json.loads(_MANIFEST.read_text("utf-8")), reason="no described atlas is shipped"
    ),
]


def test_search_open_read_and_come_back(tab: Tab) -> None:
    page = tab.open("/neurons")
    table = page.get_by_test_id("stDataFrame")
    expect(table).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text(re.compile(r"92,160 of 92,160 neuron sides pass"))).to_be_visible()
    search = page.get_by_role("textbox", name="Search")
    search.fill("court and law")
    search.press("Enter")
    expect(page.get_by_text(re.compile(r"neuron sides pass"))).not_to_contain_text("92,160 of", timeout=PATIENCE)
    tab.settle()
    assert "q=court+and+law" in page.url
    tab.shoot("neurons")

    box = table.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 420, box["y"] + 36 + 17, steps=5)  # the description of the first row: the table is a canvas
    page.wait_for_timeout(300)
    page.mouse.click(box["x"] + 420, box["y"] + 36 + 17)
    expect(page.get_by_role("button", name="All neurons")).to_be_visible(timeout=PATIENCE)
    assert re.search(r"neuron=\d+%3A\d+(%2B|-)", page.url)
    expect(page.locator(".ns-passage").first).to_be_visible(timeout=PATIENCE)
    page.locator(".ns-passage .tok.peak").first.hover()
    expect(page.locator(".ns-value")).to_contain_text("activation")
    expect(page.locator(".ns-value")).to_contain_text("1.00 of its strongest in the corpus")
    page.get_by_role("button", name="All neurons").click()
    expect(page.get_by_role("textbox", name="Search")).to_have_value("court and law", timeout=PATIENCE)


def test_a_deep_link_reads_texts_and_leads_to_neighbours(tab: Tab, open_tab: Callable[..., Tab]) -> None:
    page = tab.open("/neurons?neuron=17:803")
    expect(page.locator(".ns-plain").first).to_contain_text("Neuron 17:803+", timeout=PATIENCE)
    expect(page.get_by_text(re.compile("The 24 strongest places"))).to_be_visible(timeout=PATIENCE)
    page.locator(".ns-passage .tok.peak").first.hover()
    tab.shoot("neuron", pointer=True)
    first = page.locator(".ns-passages")
    first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".ns-value")).to_contain_text("activation")
    page.keyboard.press("Escape")

    page.get_by_role("radio", name="Try a text").or_(page.get_by_role("button", name="Try a text")).first.click()
    page.get_by_role("textbox", name="Your text").fill("In 1994 there were 28 councillors.\nThe end.")
    page.get_by_role("button", name="Read it").click()
    expect(page.locator(".ns-passage .tok").first).to_be_visible(timeout=PATIENCE)
    assert "".join(page.locator(".ns-passage .tok").all_inner_texts()).startswith("In 1994")

    page.get_by_role("radio", name="Neighbours").or_(page.get_by_role("button", name="Neighbours")).first.click()
    link = page.locator(".ns-links[aria-label='Writes alike'] a").first
    expect(link).to_be_visible(timeout=PATIENCE)
    name = link.inner_text()
    assert link.get_attribute("href") == f"/neurons?neuron={name.replace('+', '%2B')}"
    link.click()
    expect(page.locator(".ns-plain").first).to_contain_text(f"Neuron {name}", timeout=PATIENCE)

    dark = open_tab(dark=True)
    page = dark.open("/neurons?neuron=99:0")
    expect(page.get_by_role("alert").first).to_contain_text("has layers 0 to 29", timeout=PATIENCE)
    expect(page.get_by_test_id("stDataFrame")).to_be_visible(timeout=PATIENCE)
