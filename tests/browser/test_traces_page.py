"""The Traces page: search, open by a link, delete and undo, export and import again."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.test_steering_journey import ask, tick
from tests.support.browser import PATIENCE, Tab

pytestmark = pytest.mark.browser


def test_search_delete_undo_export_import_open(tab: Tab) -> None:
    page = ask(tab, "Say the word zebra.")
    trace = re.search(r"trace=([0-9a-f]{12})", page.url)
    assert trace is not None
    page.get_by_role("link", name="Traces", exact=True).click()
    tab.settle()
    search = page.get_by_placeholder(re.compile("words in prompt"))
    search.fill("zebra")
    search.press("Enter")
    tab.settle()
    tick(tab, 0)
    detail = page.locator(".ns-plain").last
    expect(detail).to_contain_text("Say the word zebra.", timeout=PATIENCE)

    page.get_by_role("button", name="Export").click()
    with page.expect_download(timeout=PATIENCE) as got:
        page.get_by_role("button", name=re.compile("Download 1 trace")).click()
    file = got.value.path()
    page.keyboard.press("Escape")

    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("1 trace moved to the trash.")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("No trace fits these filters.")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    tab.settle()
    expect(page.get_by_test_id("stDataFrame")).to_be_visible(timeout=PATIENCE)

    page.mouse.move(5, 5)  # off the table, whose tools lie over the buttons while it is pointed at
    page.get_by_role("button", name="Import").click()
    page.locator("input[type=file]").set_input_files({"name": "t.zip", "mimeType": "application/zip", "buffer": file.read_bytes()})
    expect(page.locator(".ns-plain", has_text="1 imported")).to_be_visible(timeout=PATIENCE)
    page.locator("input[type=file]").set_input_files({"name": "bad.zip", "mimeType": "application/zip", "buffer": b"PK nothing"})
    expect(page.locator(".ns-plain", has_text="not a readable zip")).to_be_visible(timeout=PATIENCE)
    page.keyboard.press("Escape")
    tab.settle()

    opens = page.get_by_role("button").filter(has_text=re.compile("Open$"))
    if opens.is_disabled():  # what was ticked before it was deleted is ticked again once it is back
        tick(tab, 0)
    opens.click()
    page.wait_for_url(re.compile(r"\?trace=[0-9a-f]{12}"), timeout=PATIENCE)
    expect(page.locator(".ns-bubble.user").last).to_contain_text("zebra", timeout=PATIENCE)
    tab.settle()


def test_models_page_names_the_shared_model(tab: Tab) -> None:
    page = tab.open()
    tab.ready()
    page.get_by_role("link", name="Models", exact=True).click()
    expect(page.locator(".ns-plain").first).to_contain_text("SmolLM2-135M-Instruct", timeout=PATIENCE)
    tab.settle()
    tick(tab, 0)
    expect(page.get_by_text(re.compile("this switches it for all of them"))).to_be_visible(timeout=PATIENCE)
    tab.shoot("models")
