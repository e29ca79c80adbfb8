"""The Prompts page: a CSV file with bad rows, run in the background, its answers found by a link."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.test_steering_journey import shorten
from tests.support.browser import PATIENCE, Tab

pytestmark = pytest.mark.browser

CSV = (
    "id;question;topic\n"
    "a;What is the capital of Canada?;geography\n"
    "b;;empty\n"
    "c;What is the capital of New Zealand?;geography\n"
    "d;too;many;cells\n"
    "e;<b>bold</b> ![x](http://127.0.0.1:1/x.png) $a$;markup\n"
)


def test_a_csv_with_bad_rows_runs_to_the_end(tab: Tab) -> None:
    page = tab.open()
    tab.ready()
    shorten(tab, 12)
    page.get_by_role("link", name="Prompts", exact=True).click()
    tab.settle()
    page.locator("input[type=file]").set_input_files({"name": "questions.csv", "mimeType": "text/csv", "buffer": CSV.encode()})
    wrong = page.locator(".ns-plain", has_text="cannot be used")
    expect(wrong).to_contain_text("2 rows cannot be used", timeout=PATIENCE)
    expect(wrong).to_contain_text("row 2: the question is empty")
    expect(wrong).to_contain_text("row 4: it has 4 cells")
    expect(page.get_by_text("3 prompts can be run.")).to_be_visible()
    name = page.get_by_role("textbox", name="Name of the run")
    name.fill("Capitals *of* the world")
    name.press("Enter")
    tab.settle()
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_text("3 prompts answered")).to_be_visible(timeout=3 * PATIENCE)
    tab.settle()
    expect(page.locator(".ns-plain", has_text="done, 3 of 3")).to_be_visible(timeout=PATIENCE)
    page.mouse.wheel(0, -5000)
    tab.shoot("prompts")
    assert page.locator("img[src*='127.0.0.1:1']").count() == 0

    page.reload()
    expect(page.get_by_text("3 prompts answered")).to_be_visible(timeout=PATIENCE)
    tab.settle()
