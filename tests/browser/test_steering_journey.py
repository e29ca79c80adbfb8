"""Steering as a person does it: suppress neurons, run both, compare, find the run among the traces, replay it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import PATIENCE, Tab

pytestmark = pytest.mark.browser

QUESTION = "What is the capital of Turkey?"
ISTANBUL = "29:1285-, 29:1123, 29:1022"
"""Neurons that promote Istanbul over Ankara here, by contrastive attribution; suppressing these three turns the answer."""


def ask(tab: Tab, question: str = QUESTION) -> Page:
    """The question in a conversation of its own."""
    page = tab.open()
    tab.ready()
    if page.get_by_role("button", name="New", exact=True).count():
        page.get_by_role("button", name="New", exact=True).click()
        tab.settle()
    shorten(tab)
    tab.ask(question)
    return page


def shorten(tab: Tab, tokens: int = 16) -> None:
    """Short answers from here on."""
    tab.page.get_by_role("button", name="greedy").click()
    length = tab.page.get_by_role("spinbutton", name="Max new tokens")
    length.fill(str(tokens))
    length.press("Enter")
    tab.settle()
    tab.page.keyboard.press("Escape")


def type_steer(tab: Tab, neurons: str, name: str, *, close: bool = True) -> None:
    """A card from typed neurons."""
    page = tab.page
    page.get_by_role("tab", name="Steer").click()
    tab.settle()
    page.get_by_role("button", name="Type", exact=True).click()
    page.get_by_role("textbox", name="Neurons, layer:index").fill(neurons)
    page.get_by_placeholder("what they do").fill(name)
    page.get_by_role("button", name="Add", exact=True).click()
    tab.settle()
    if close:
        page.keyboard.press("Escape")
        page.evaluate("document.activeElement.blur()")


def run_steered(tab: Tab) -> None:
    """Press the button and wait for the comparison."""
    tab.page.get_by_role("button", name="Run steered").click()
    expect(tab.page.get_by_text("Open on its own page")).to_be_visible(timeout=PATIENCE)
    tab.settle()


def tick(tab: Tab, row: int, *, table: int = 0) -> None:
    """Tick a row of a table: it is a canvas, so by position."""
    frame = tab.page.get_by_test_id("stDataFrame").nth(table)
    frame.scroll_into_view_if_needed()
    box = frame.bounding_box()
    assert box is not None
    tab.page.mouse.click(box["x"] + 16, box["y"] + 36 + 35 * row + 17)
    tab.settle()


def test_suppress_compare_find_and_replay(tab: Tab, open_tab: Callable[..., Tab]) -> None:
    page = ask(tab)
    expect(page.locator(".ns-bubble.assistant").last).to_contain_text("Istanbul")
    page.get_by_role("tab", name="Neurons").click()
    tab.settle()
    tick(tab, 0)
    page.get_by_role("button", name="Suppress").click()
    tab.settle()
    page.get_by_role("tab", name="Steer").click()
    expect(page.get_by_text("Suppresses 1 neuron: activation 0 at every token.").first).to_be_visible(timeout=PATIENCE)
    if not page.get_by_role("button", name=re.compile("delete")).is_visible():  # a card is one line until it is opened
        page.get_by_text("Suppresses 1 neuron: activation 0 at every token.").first.click()
    page.get_by_role("button", name=re.compile("delete")).click()
    expect(page.get_by_role("button", name="Undo")).to_be_visible(timeout=PATIENCE)

    type_steer(tab, "29:1285-, 99:1", "nowhere", close=False)
    expect(page.get_by_text(re.compile("has layers 0 to 29")).first).to_be_visible(timeout=PATIENCE)
    page.reload()
    tab.ready()
    type_steer(tab, ISTANBUL, "says Istanbul")
    expect(page.get_by_text("Suppresses 3 neurons: activation 0 at every token.").first).to_be_visible(timeout=PATIENCE)
    tab.shoot("steer-cards")
    run_steered(tab)
    columns = page.locator(".ns-bubble.assistant")
    expect(columns.nth(1)).to_contain_text("Istanbul")
    expect(columns.nth(2)).to_contain_text("Ankara")

    page.get_by_text("Open on its own page").click()
    page.wait_for_url(re.compile(r"/compare\?a=[0-9a-f]{12}&b=[0-9a-f]{12}"), timeout=PATIENCE)
    tab.settle()
    link = page.url.removeprefix(tab.app.url)
    expect(page.locator(".tok.marked").first).to_be_visible()
    expect(page.locator(".ns-plain .removed")).to_contain_text("Istanbul")
    expect(page.locator(".ns-plain .added")).to_contain_text("Ankara")
    tab.shoot("compare")
    page.get_by_role("tab", name="Probabilities").click()
    expect(page.get_by_text(re.compile("KL divergence of the two"))).to_be_visible(timeout=PATIENCE)
    page.get_by_role("tab", name="Probabilities").evaluate("tab => tab.scrollIntoView()")
    tab.shoot("compare-probabilities")

    night = open_tab(dark=True)
    night.open(link)
    expect(night.page.locator(".ns-plain .added")).to_contain_text("Ankara", timeout=PATIENCE)
    night.shoot("compare-dark")

    page.get_by_role("link", name="Traces", exact=True).click()
    tab.settle()
    page.get_by_placeholder(re.compile("words in prompt")).fill("turkey ankara")
    page.get_by_placeholder(re.compile("words in prompt")).press("Enter")
    tab.settle()
    tick(tab, 0)
    expect(page.locator(".ns-plain").last).to_contain_text("Ankara", timeout=PATIENCE)
    page.get_by_role("button", name="Replay").click()
    expect(page.get_by_text(re.compile("the same token ids; activations and probabilities too, bit for bit"))).to_be_visible(
        timeout=PATIENCE
    )
    tab.shoot("traces")
