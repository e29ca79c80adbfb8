"""An engineer's hour: prompts with what is expected, a wrong answer opened, steered and repaired, and a report for a colleague."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.test_steering_journey import run_steered
from tests.support.browser import PATIENCE, Tab
from tests.support.journey import LONGEST, Journey, looks, press, search, set_out, to_repair, type_into

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

CSV = "prompt,expected\nWhat is the capital of Turkey?,Ankara\nWhat is the capital of Japan?,Tokyo\nWhat is the capital of France?,Paris\n"
WORDINGS = (
    "Name the capital of Turkey.",
    "Tell me the capital of Turkey.",
    "What's the capital of Turkey?",
    "For a quiz: What is the capital of Turkey?",
)
CONTROLS = ("What is the capital of Japan?", "What is the capital of France?")


@looks(1440, dark=True)
def test_from_a_file_of_prompts_to_a_report_of_the_fix(open_tab: Callable[..., Tab], width: int, dark: bool) -> None:
    walk = set_out(open_tab, "engineer", width, dark=dark)
    tab = walk.tab
    page = tab.open("/")
    tab.ready()
    walk.shorten(8)
    run_the_file(walk)
    open_the_wrong_answer(walk)
    steer_it(walk)
    repair_it(walk)
    with page.expect_download(timeout=PATIENCE) as got:
        press(page, page.get_by_role("button", name="Report", exact=True))
    report = got.value.path().read_text(encoding="utf-8")
    assert "What is the capital of Turkey?" in report
    assert "Ankara" in report
    assert "<script" not in report
    walk.all_was_readable()


def run_the_file(walk: Journey) -> None:
    """The file is still there after a visit to another page; its answers are, after a reload too."""
    tab, page = walk.tab, walk.page
    walk.visit("Prompts")
    page.locator("input[type=file]").set_input_files({"name": "capitals.csv", "mimeType": "text/csv", "buffer": CSV.encode()})
    expect(page.get_by_text("3 prompts can be run.")).to_be_visible(timeout=PATIENCE)
    walk.visit("Traces")
    page.go_back()
    expect(page.get_by_text("Still here: capitals.csv")).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("3 prompts can be run.")).to_be_visible(timeout=PATIENCE)
    tab.settle()
    name = page.get_by_role("textbox", name="Name of the run")
    name.fill(walk.name)
    name.press("Enter")
    tab.settle()
    press(page, page.get_by_role("button", name="Run", exact=True))
    expect(page.get_by_text("3 prompts answered")).to_be_in_viewport(timeout=LONGEST)
    tab.settle()

    def judged() -> None:
        expect(page.get_by_text(re.compile("2 of 3 .*right"))).to_be_visible(timeout=PATIENCE)
        rows = page.get_by_test_id("stDataFrame").last.locator("tbody tr")
        expect(rows.nth(0)).to_contain_text(re.compile("false.*Ankara.*Istanbul"), timeout=PATIENCE)
        expect(rows.nth(1)).to_contain_text(re.compile("true.*Tokyo.*Tokyo"))

    walk.step("judged", judged, away=True)


def open_the_wrong_answer(walk: Journey) -> None:
    page = walk.page
    walk.choose(0)
    press(page, page.get_by_role("button", name="Open", exact=True).last)
    walk.tab.ready()
    walk.step("opened", lambda: expect(answers(page).last).to_contain_text("Istanbul", timeout=PATIENCE), away=True)


def steer_it(walk: Journey) -> None:
    """What raised the wrong answer is suppressed."""
    tab, page = walk.tab, walk.page
    press(page, page.get_by_role("button", name="What caused the answer?"))
    because = page.locator(".ns-plain", has_text="The model wrote")
    expect(because).to_contain_text("ritten because of", timeout=LONGEST)
    tab.settle()
    walk.step("caused", lambda: expect(because).to_contain_text("ritten because of", timeout=PATIENCE))
    press(page, page.get_by_role("group", name=re.compile("^Cause: ")).first.get_by_role("button", name="Suppress"))
    expect(page.get_by_text("on a new card in the Steer tab")).to_be_visible(timeout=PATIENCE)
    tab.settle()
    press(page, page.get_by_role("tab", name="Steer"))
    card = page.get_by_text(re.compile("^Suppress ")).first
    expect(card).to_be_visible(timeout=PATIENCE)
    tab.settle()
    run_steered(tab)
    walk.step("steered", lambda: expect(card).to_be_visible(timeout=PATIENCE), away=True)


def repair_it(walk: Journey) -> None:
    """From the answer to the search, and its end: all of it stands there again after a reload."""
    tab, page = walk.tab, walk.page
    to_repair(tab, "Ankara")
    for label, value in (("Wanted", "Ankara"), ("Unwanted (optional)", "Istanbul")):
        expect(page.get_by_role("textbox", name=label, exact=True)).to_have_value(value, timeout=PATIENCE)
    type_into(tab, "textbox", "Other wordings that should change too, one per line", "\n".join(WORDINGS))
    press(page, page.get_by_role("radio", name="My own"), "Space")
    type_into(tab, "textbox", "Controls, one per line", "\n".join(CONTROLS))
    fixed = search(tab)

    def shown() -> None:
        expect(fixed).to_be_visible(timeout=PATIENCE)
        expect(page.get_by_test_id("stMetric").filter(has_text="Controls unchanged")).to_contain_text("2 of 2", timeout=PATIENCE)

    walk.step("repaired", shown, away=True)


def answers(page: Page) -> Locator:
    """What the model said, of every conversation that is drawn."""
    return page.locator(".ns-strip .ns-bubble.assistant")
