"""A student's hour: a wrong answer, what caused it, suppressed, strengthened, compared, and tried on another question."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.test_steering_journey import run_steered
from tests.support.browser import PATIENCE, Tab
from tests.support.journey import Journey, looks, press, search, set_out, to_repair

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

LEARNING = 4 * PATIENCE
"""Milliseconds that a push may take to be learned where other tests run beside it: about 70 s of one thread."""
RIDDLE = "Alice has 2 sisters and 1 brother, Bob. Fill in the blank: The number of Bob's sisters is"
OTHER = "Anna has 3 sisters and 1 brother, Tom. Fill in the blank: The number of Tom's sisters is"


def test_from_a_wrong_answer_to_its_causes_and_what_they_do_elsewhere(open_tab: Callable[..., Tab]) -> None:
    tab = open_tab()
    walk = Journey(tab, "student")
    page = tab.open("/")
    tab.ready()
    walk.ask(RIDDLE)
    answer = page.locator(".ns-strip .ns-bubble.assistant").last
    walk.step("asked", lambda: expect(answer).to_contain_text(re.compile("sisters is.2")))

    press(page, page.get_by_role("button", name="What caused the answer?"))
    because = page.locator(".ns-plain", has_text="The model wrote 2")
    expect(because).to_contain_text("ritten because of", timeout=PATIENCE)
    walk.step("cause", lambda: expect(because).to_contain_text("ritten because of", timeout=PATIENCE))
    cause = re.search(r"ritten because of (.*?) \(", because.inner_text())
    assert cause is not None

    tab.settle()
    press(page, page.get_by_role("group", name=f"Cause: {cause[1]}").get_by_role("button", name="Suppress"))
    expect(page.get_by_text("on a new card in the Steer tab")).to_be_visible(timeout=PATIENCE)
    tab.settle()
    page.get_by_role("tab", name="Steer").click()
    card = page.get_by_text(f"Suppress {cause[1]}").first
    expect(card).to_be_visible(timeout=PATIENCE)
    tab.settle()
    run_steered(tab)
    expect(page.get_by_role("button", name="Run steered")).to_be_in_viewport()
    expect(page.locator(".ns-bubble.assistant").nth(2)).to_be_in_viewport()
    walk.step("suppressed", lambda: expect(card).to_be_visible())

    page.get_by_role("tab", name="Concepts").click()
    tab.settle()
    press(page, page.get_by_role("button", name="Strengthen").nth(1))
    expect(page.get_by_text("on a new card in the Steer tab").first).to_be_visible(timeout=LEARNING)
    tab.settle()
    page.get_by_role("tab", name="Steer").click()
    expect(page.get_by_text(re.compile("^Strengthen ")).first).to_be_visible(timeout=PATIENCE)
    run_steered(tab)
    page.get_by_text("Open on its own page").click()
    page.wait_for_url(re.compile(r"/compare\?a="), timeout=PATIENCE)
    tab.settle()
    walk.step("compared", lambda: expect(page.locator(".ns-bubble.assistant")).to_have_count(2))

    page.go_back()
    tab.ready()
    page.get_by_text("Over a prompt set").click()
    tab.settle()
    lines = page.get_by_role("textbox", name="One prompt per line")
    lines.fill(f"{RIDDLE}\n{OTHER}")
    lines.press("Tab")
    tab.settle()
    press(page, page.get_by_role("button", name="Run the set"))
    expect(page.get_by_text("2 prompts answered")).to_be_in_viewport(timeout=2 * PATIENCE)
    tab.settle()
    walk.all_was_readable()


@looks(1024, dark=True)
def test_from_a_wrong_answer_to_a_fix_that_holds(open_tab: Callable[..., Tab], width: int, dark: bool) -> None:
    walk = set_out(open_tab, "student-repair", width, dark=dark)
    tab = walk.tab
    page = tab.open("/")
    tab.ready()
    walk.shorten(8)
    walk.ask("What is the capital of Turkey?")
    answer = page.locator(".ns-strip .ns-bubble.assistant").last
    walk.step("asked", lambda: expect(answer).to_contain_text("Istanbul", timeout=PATIENCE))
    to_repair(tab, "Ankara")

    def filled() -> None:
        for label, value in (
            ("Question that is answered wrong", "What is the capital of Turkey?"),
            ("Wanted", "Ankara"),
            ("Unwanted (optional)", "Istanbul"),
        ):
            expect(page.get_by_role("textbox", name=label, exact=True)).to_have_value(value, timeout=PATIENCE)
        expect(page.get_by_role("textbox", name="Other wordings")).to_have_value(re.compile("(.+\n){9}.+"), timeout=PATIENCE)
        expect(page.get_by_role("radio", name="Everyday prompts")).to_be_checked()

    walk.step("filled", filled, away=True)
    fixed = search(tab)

    def held() -> None:
        expect(fixed).to_be_visible(timeout=PATIENCE)
        for label, whole in (("Held-out wordings fixed", 5), ("Controls unchanged", 20)):
            expect(page.get_by_test_id("stMetric").filter(has_text=label)).to_contain_text(re.compile(rf"\d+ of {whole}"), timeout=PATIENCE)

    walk.step("fixed", held, away=True)
    press(page, page.get_by_role("button", name="Use this steer"))
    card = page.get_by_text(re.compile("^repair: ")).locator("visible=true").first
    expect(card).to_be_visible(timeout=PATIENCE)
    walk.step("on cards", lambda: expect(card).to_be_visible(timeout=PATIENCE))
    walk.all_was_readable()
